"""Decode with a cache, and demand what the whole sequence gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import in_words
from ..nn.modes import evaluating
from .calls import BLIND, Subject, depends, difference, inside, rounding
from .locate import record
from .padding import padded_rows
from .verdict import Part, Verdict, silent

CHUNK = 5
Step = Callable[..., tuple[Any, Any]]


def check_cache(subject: Subject, *, part: Part = silent) -> Verdict:
    """Whether decoding with a cache gives what the whole sequence gives.

    The sequence is read in chunks of 5, then token by token, with rows padded on the left by 0, 3
    and length - 1 if the model takes a padding mask, and the rows reordered half-way if its cache
    can. Known caches: ``model.new_cache()`` handed over as ``cache=`` and updated in place, and
    ``past_key_values`` with ``use_cache=True`` as in transformers. ``part`` receives how many steps
    of decoding there will be, and then how many were made.
    """
    step = _step_of(subject)
    if step is None:
        says = "the model has no cache that is known (new_cache with cache=, or past_key_values)"
        return Verdict("cache", "not checked", says)
    rows, real = subject.rows(subject.inputs), None
    if subject.mask is not None:
        rows, real = padded_rows(subject, "left", 0)
    with evaluating(subject.model):
        if not depends(subject, on="past"):
            return Verdict("cache", "not checked", BLIND)
        subject = subject.with_fitting_mask()
        try:
            whole = subject.call(rows, **({} if real is None else subject.with_mask(real)))
            worst, reordered = _decode(subject, step, rows, real, whole=whole, part=part)
            limit = rounding(whole if real is None else whole[real])
            layer = None
            if worst > limit:
                layer = _layer(subject, step, rows, limit=limit)
        except Exception as error:  # a stranger's model may raise anything
            return Verdict("cache", "fails", f"decoding raises {in_words(error)}")
    how = f"chunks of {CHUNK}, then token by token"
    how += "" if real is None else f", rows padded by 0, 3 and {subject.length - 1}"
    how += ", rows reordered half-way" if reordered else ""
    if worst <= limit:
        says = f"{how}: differs from the whole sequence by {worst:.2g} at most"
        return Verdict("cache", "holds", says, worst)
    says = f"{how}: differs from the whole sequence by {worst:.2g}"
    return Verdict("cache", "fails", says + (f"; first in {layer}" if layer else ""), worst, layer)


def _step_of(subject: Subject) -> Step | None:
    """``step(rows, state, **masks) -> (output, state)`` by the protocol that the model follows."""
    model: Any = inside(subject.model)
    if hasattr(model, "new_cache") and "cache" in subject.parameters:

        def own(rows: Tensor, state: Any, **masks: Tensor) -> tuple[Any, Any]:
            state = model.new_cache() if state is None else state
            return subject.call(rows, cache=state, **masks), state

        return own
    if "past_key_values" in subject.parameters:

        def transformers(rows: Tensor, state: Any, **masks: Tensor) -> tuple[Any, Any]:
            output = subject.run(rows, **masks, past_key_values=state, use_cache=True)
            return subject.read(output, rows), output.past_key_values

        return transformers
    return None


def _masks(subject: Subject, real: Tensor | None, start: int, stop: int) -> dict[str, Tensor]:
    """The padding mask of the tokens ``start:stop``; in transformers' language of all so far."""
    if real is None:
        return {}
    assert subject.mask is not None
    return subject.with_mask(real[:, 0 if subject.mask[0] == "attention_mask" else start : stop])


def _decode(
    subject: Subject,
    step: Step,
    rows: Tensor,
    real: Tensor | None,
    *,
    whole: Tensor,
    part: Part,
) -> tuple[float, bool]:
    """The largest difference at real tokens, and whether the rows were reordered."""
    half = CHUNK * (subject.length // (2 * CHUNK)) or 1
    starts = [*range(0, half, CHUNK), *range(half, subject.length)]
    state, worst, reordered = None, 0.0, False
    report = part("cache", len(starts))
    stops = [*starts[1:], subject.length]
    for done, (start, stop) in enumerate(zip(starts, stops, strict=True), start=1):
        if start == half:
            order = torch.arange(len(rows), device=rows.device).roll(1)
            reordered = _reorder(state, order)
            if reordered:
                rows, whole = rows[order], whole[order]
                real = None if real is None else real[order]
        output, state = step(rows[:, start:stop], state, **_masks(subject, real, start, stop))
        expected = whole[:, start:stop]
        if real is not None:
            where = real[:, start:stop]
            output, expected = output[where], expected[where]
        worst = max(worst, difference(output, expected))
        report(done)
    return worst, reordered


def _reorder(state: Any, order: Tensor) -> bool:
    for name in ("reorder", "reorder_cache"):
        if hasattr(state, name):
            getattr(state, name)(order)
            return True
    return False


def _layer(subject: Subject, step: Step, rows: Tensor, *, limit: float) -> str | None:
    """The first layer whose last token differs when it is decoded alone (rows without padding)."""
    length = subject.length
    whole = record(subject.model, lambda: subject.call(rows))
    _, state = step(rows[:, : length - 1], None)
    last = record(subject.model, lambda: step(rows[:, length - 1 :], state))
    decoded = {e.name: e.tensors for e in last if e.kind == "out"}
    for event in whole:
        if event.kind != "out" or event.name not in decoded:
            continue
        for ours, theirs in zip(event.tensors, decoded[event.name], strict=False):
            if _last_differs(ours, theirs, length, limit):
                return event.name or "the model itself"
    return None


def _last_differs(whole: Tensor, decoded: Tensor, length: int, limit: float) -> bool:
    """Whether the last token of ``whole`` is not the one that was decoded alone."""
    if whole.dim() != decoded.dim() or not whole.is_floating_point():
        return False
    axes = [a for a in range(whole.dim()) if whole.shape[a] == length and decoded.shape[a] == 1]
    if len(axes) != 1:
        return False
    last = whole.narrow(axes[0], length - 1, 1)
    return last.shape == decoded.shape and difference(last, decoded) > limit
