"""Pad, fill the padding with anything, and demand the same outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import in_words
from ..nn.modes import evaluating
from .calls import MASKS, Subject, difference, rounding
from .locate import first_parting, record
from .verdict import Verdict


def check_padding(subject: Subject, *, tolerance: float = 0.0) -> Verdict:
    """Whether masked padding, left or right, leaves real tokens alone.

    Rows with 0, 3 and length - 1 tokens of padding in one batch: whatever the padding holds, real
    tokens must not change by a bit (by more than ``tolerance``), and each row must give what it
    gives alone and unpadded, to rounding. Where padding reaches nothing even without the mask,
    nothing is certified.
    """
    if subject.mask is None:
        known = ", ".join(MASKS)
        says = f"forward takes no padding mask (known: {known}; else name it with mask_argument)"
        return Verdict("padding", "not checked", says)
    failures, worst, reached = [], 0.0, False
    with evaluating(subject.model):
        subject = subject.with_fitting_mask()
        for side in ("left", "right"):
            try:
                reached |= _reaches_unmasked(subject, side)
                apart, why = _one_side(subject, side, tolerance=tolerance)
            except Exception as error:  # a stranger's model may raise anything
                return Verdict("padding", "fails", f"{side} padding raises {in_words(error)}")
            worst = max(worst, apart)
            failures += [] if why is None else [why]
    if failures:
        layer = failures[0][1]
        says = "; ".join(why for why, _ in failures)
        return Verdict("padding", "fails", says, worst, layer)
    if not reached:
        says = "padding reaches no real token even without the mask, so nothing could be seen"
        return Verdict("padding", "not checked", says)
    bits = "no bit" if tolerance == 0.0 else f"at most {tolerance:.2g}"
    says = (
        f"rows padded by 0, 3 and {subject.length - 1}, left and right: what the padding holds "
        f"changes {bits} of real tokens, and each row alone differs by {worst:.2g} at most"
    )
    return Verdict("padding", "holds", says, worst)


def padded_rows(subject: Subject, side: str, seed: int) -> tuple[Tensor, Tensor]:
    """Three rows of the first input, padded with noise, and where they are real."""
    length = subject.length
    first = subject.rows(subject.inputs)[0]
    rows, real = [], []
    for count in (0, 3, length - 1):
        noise = subject.noise(first[:count], seed=seed, loud=seed > 0)
        kept = first[: length - count]
        rows.append(torch.cat([noise, kept] if side == "left" else [kept, noise]))
        position = torch.arange(length, device=first.device)
        real.append(position >= count if side == "left" else position < length - count)
    return torch.stack(rows), torch.stack(real)


def _reaches_unmasked(subject: Subject, side: str) -> bool:
    """Whether padding changes real tokens where nothing masks it."""
    (rows, real), (other, _) = (padded_rows(subject, side, seed) for seed in (0, 1))
    return difference(subject.call(rows)[real], subject.call(other)[real]) > 0.0


def _one_side(
    subject: Subject, side: str, *, tolerance: float
) -> tuple[float, tuple[str, str | None] | None]:
    """The largest difference, and what failed with the layer where it first shows."""
    (rows, real), (other, _) = (padded_rows(subject, side, seed) for seed in (0, 1))
    masked = subject.with_mask(real)
    output, changed = subject.call(rows, **masked), subject.call(other, **masked)
    apart = difference(output[real], changed[real])
    if apart > tolerance:
        layer = _layer(subject, rows, other, real, tolerance=tolerance)
        says = f"what {side} padding holds changes real tokens by up to {apart:.2g}"
        return apart, (says + (f", first in {layer}" if layer else ""), layer)
    worst = 0.0
    for row, where, padded in zip(rows, real, output, strict=True):
        alone = subject.call(row[where].unsqueeze(0))[0]
        apart = difference(padded[where], alone)
        if not padded[where].isfinite().all():
            return float("inf"), (f"{side} padding makes real tokens not finite", None)
        if apart > rounding(output[real]):
            count = int((~where).sum())
            says = f"a row padded by {count} on the {side} differs by {apart:.2g} from it alone"
            hint = "; are positions counted from the padding?" if side == "left" else ""
            return apart, (says + hint, None)
        worst = max(worst, apart)
    return worst, None


def _layer(
    subject: Subject, rows: Tensor, other: Tensor, real: Tensor, *, tolerance: float
) -> str | None:
    """Where what the padding holds first reaches a real token."""
    masked, length = subject.with_mask(real), subject.length
    runs = [record(subject.model, lambda x=x: subject.call(x, **masked)) for x in (rows, other)]

    def real_differs(one: Tensor, theirs: Tensor) -> bool:
        """Of the row with the least padding, on all axes as long as the sequence."""
        if one.shape != theirs.shape or length not in one.shape or len(rows) not in one.shape:
            return False
        batch_axis = one.shape.index(len(rows))
        where = real[1].nonzero().squeeze(1)
        for axis, size in enumerate(one.shape):
            if size == length and axis != batch_axis:
                one, theirs = (x.index_select(axis, where) for x in (one, theirs))
        return difference(one.select(batch_axis, 1), theirs.select(batch_axis, 1)) > tolerance

    return first_parting(runs[0], runs[1], real_differs)
