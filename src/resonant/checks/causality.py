"""Replace the future, and demand the past back bit by bit."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from ..nn.modes import evaluating
from .calls import BLIND, Subject, depends, difference, rounding
from .locate import first_parting, record
from .verdict import Part, Verdict, silent

ALL_CUTS = 64  # up to this length every cut is made; beyond it those near blocks of 8, and others


def check_causality(subject: Subject, *, tolerance: float = 0.0, part: Part = silent) -> Verdict:
    """Whether no output depends on a later input.

    The inputs from a token on are replaced by others, for every token (in long inputs for those
    around multiples of 8, where blocks end, and others); the outputs before it must not change by a
    bit (by more than ``tolerance``). A model whose outputs depend on no earlier token, that answers
    one input in two ways, or whose rows depend on one another, is not certified. ``part`` receives
    how many tokens will be tried, and then how many have been.
    """
    rows = subject.rows(subject.inputs)
    with evaluating(subject.model):
        if len(rows) > 1 and depends(subject, on="rows"):
            return _coupled(subject, tolerance)
        reference = subject.call(rows)
        why = _cannot_tell(subject, rows, reference, tolerance)
        if why is not None:
            return why
        worst, found = 0.0, None
        tried = cuts(subject.length)
        report = part("causality", len(tried))
        for done, cut in enumerate(tried, start=1):
            replaced = _replaced(subject, rows, cut)
            output = subject.call(replaced)
            apart = difference(output[:, :cut], reference[:, :cut])
            if apart > worst:
                worst, found = apart, (cut, replaced, output)
            report(done)
        if worst <= tolerance and not depends(subject, on="past"):
            return Verdict("causality", "not checked", BLIND)
        if found is None or worst <= tolerance:
            bits = "no bit" if worst == 0.0 else f"at most {worst:.2g}"
            says = f"replacing all from a token on, {len(tried)} tokens of {subject.length} tried, "
            says += f"changes {bits} of what comes before"
            return Verdict("causality", "holds", says, worst)
        cut, replaced, output = found
        layer = _layer(subject, rows, replaced, cut, tolerance=tolerance)
    token = _earliest(output[:, :cut], reference[:, :cut], tolerance)
    says = f"replacing tokens from {cut} on changes token {token} by up to {worst:.2g}"
    says += f"; first in {layer}" if layer else "; with hooks on its modules it does not"
    if worst <= rounding(reference):
        says += "; that little may be rounding (of an FFT, say): see tolerance"
    return Verdict("causality", "fails", says, worst, layer)


def _coupled(subject: Subject, tolerance: float) -> Verdict:
    """The verdict on a model whose rows depend on one another, with that on one row alone."""
    one = dataclasses.replace(subject, inputs=subject.rows(subject.rows(subject.inputs)[:1]))
    alone = check_causality(one, tolerance=tolerance)
    says = (
        "outputs of a row depend on other rows of its batch: something runs over the flattened "
        f"batch (a capacity of experts, a statistic); for one row alone it {alone.status}: "
        f"{alone.says}"
    )
    return Verdict("causality", "fails", says, alone.worst, alone.layer)


def cuts(length: int) -> list[int]:
    """The tokens from which on the future is replaced."""
    if length <= ALL_CUTS:
        return list(range(1, length))
    blocks = [n + side for n in range(8, length, 8) for side in (-1, 0, 1)]
    return sorted({1, 2, length - 1, *(n for n in blocks if n < length)})


def _cannot_tell(
    subject: Subject, rows: Tensor, reference: Tensor, tolerance: float
) -> Verdict | None:
    unstable = difference(subject.call(rows), reference)
    if unstable > tolerance:
        says = (
            f"one input gives two outputs, {unstable:.2g} apart: something draws or remembers in "
            "evaluation, and nothing can be told"
        )
        return Verdict("causality", "fails", says, unstable)
    if not reference.isfinite().all():
        says = "the output is not finite: nothing can be told"
        return Verdict("causality", "fails", says, float("inf"))
    return None


def _replaced(subject: Subject, rows: Tensor, cut: int) -> Tensor:
    """Other inputs from ``cut`` on, quiet and loud in turns."""
    replaced = rows.clone()
    replaced[:, cut:] = subject.noise(rows[:, cut:], seed=cut, loud=cut % 2 == 0)
    return replaced


def _earliest(ours: Tensor, theirs: Tensor, tolerance: float) -> int:
    """The first token whose output changed."""
    tokens = range(ours.shape[1])
    return next(t for t in tokens if difference(ours[:, t], theirs[:, t]) > tolerance)


def _layer(
    subject: Subject, rows: Tensor, replaced: Tensor, cut: int, *, tolerance: float
) -> str | None:
    length = subject.length
    runs = [record(subject.model, lambda x=x: subject.call(x)) for x in (rows, replaced)]

    def past_differs(one: Tensor, other: Tensor) -> bool:
        """All axes as long as the sequence are taken for the sequence."""
        if one.shape != other.shape or length not in one.shape:
            return False
        past = tuple(slice(cut) if size == length else slice(None) for size in one.shape)
        return difference(one[past], other[past]) > tolerance

    return first_parting(runs[0], runs[1], past_differs)
