"""Replace the future, and demand the past back bit by bit."""

from __future__ import annotations

import torch
from torch import Tensor

from .calls import Subject, difference, evaluating
from .certificate import Verdict
from .locate import first_parting, record


def check_causality(subject: Subject, *, tolerance: float = 0.0) -> Verdict:
    """Whether no output depends on a later input.

    The inputs from a token on are replaced by others, quiet and loud, for several such tokens; the
    outputs before it must not change by a bit (by more than ``tolerance``). A model that
    ignores its input, or answers one input in two ways, is not certified.
    """
    rows = subject.rows(subject.inputs)
    cuts = sorted({1, subject.length // 3, 2 * subject.length // 3, subject.length - 1})
    with evaluating(subject.model):
        reference = subject.call(rows)
        unstable = difference(subject.call(rows), reference)
        if unstable > tolerance:
            return Verdict(
                "causality",
                "fails",
                f"one input gives two outputs, {unstable:.2g} apart: something draws or remembers "
                "in evaluation, and nothing can be told",
                unstable,
            )
        if not reference.isfinite().all():
            return Verdict(
                "causality", "fails", "the output is not finite: nothing can be told", float("inf")
            )
        worst, found, moved = 0.0, None, False
        for cut in cuts:
            for loud in (False, True):
                replaced = _replaced(subject, rows, cut, loud=loud)
                output = subject.call(replaced)
                moved |= not torch.equal(output[:, cut:], reference[:, cut:])
                apart = difference(output[:, :cut], reference[:, :cut])
                if apart > worst:
                    worst, found = apart, (cut, replaced, output)
        if not moved:
            return Verdict("causality", "fails", "the output does not depend on the input", None)
        if found is None or worst <= tolerance:
            bits = "no bit" if worst == 0.0 else f"at most {worst:.2g}"
            where = ", ".join(map(str, cuts))
            says = f"replacing tokens from {where} on changes {bits} of what comes before"
            return Verdict("causality", "holds", says, worst)
        cut, replaced, output = found
        layer = _layer(subject, rows, replaced, cut, tolerance=tolerance)
    token = _earliest(output[:, :cut], reference[:, :cut], tolerance)
    says = f"replacing tokens from {cut} on changes token {token} by up to {worst:.2g}"
    says += f"; first in {layer}" if layer else "; with hooks on its modules it does not"
    return Verdict("causality", "fails", says, worst, layer)


def _replaced(subject: Subject, rows: Tensor, cut: int, *, loud: bool) -> Tensor:
    replaced = rows.clone()
    replaced[:, cut:] = subject.noise(rows[:, cut:], seed=cut, loud=loud)
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
