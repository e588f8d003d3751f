"""What the checks of a model found, to print and to keep."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ..nn.modes import evaluating
from .calls import Subject

CHECKS = ("causality", "padding", "cache")
Status = Literal["holds", "fails", "not checked"]


@dataclass(frozen=True)
class Verdict:
    """One check. ``worst`` is the largest difference found, ``layer`` where it first appears."""

    check: str
    status: Status
    says: str
    worst: float | None = None
    layer: str | None = None


@dataclass(frozen=True)
class Certificate:
    """All checks of one model; ``holds`` if none fails and at least one could be made."""

    model: str
    verdicts: tuple[Verdict, ...]

    @property
    def holds(self) -> bool:
        """Whether the model may be trusted in what was checked."""
        statuses = [verdict.status for verdict in self.verdicts]
        return "fails" not in statuses and "holds" in statuses

    def __str__(self) -> str:
        lines = [self.model]
        for verdict in self.verdicts:
            status = "FAILS" if verdict.status == "fails" else verdict.status
            head = f"{verdict.check:10} {status:12} "
            body = textwrap.wrap(verdict.says, 76, break_long_words=False, break_on_hyphens=False)
            lines += [head + body[0], *(" " * len(head) + line for line in body[1:])]
        return "\n".join(lines)


def certify(
    subject: Subject, checks: tuple[str, ...] = CHECKS, *, tolerance: float = 0.0
) -> Certificate:
    """Make the ``checks`` of ``subject``.

    ``tolerance`` is the largest absolute difference to forgive where bits should be equal
    (replaced futures, contents of padding). Raises ``ValueError`` for an unknown check, a tolerance
    below 0, and a model that cannot be called.
    """
    from .cache import check_cache
    from .causality import check_causality
    from .padding import check_padding

    if not 0.0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance is a number from 0 on; it is {tolerance}")
    try:
        with evaluating(subject.model):
            subject.call(subject.rows(subject.inputs))
    except Exception as error:  # a stranger's model may raise anything
        shape = tuple(subject.inputs.shape)
        raise ValueError(
            f"the model cannot be called with inputs of shape {shape} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:300]})"
        ) from error
    verdicts = []
    for check in checks:
        if check == "causality":
            verdicts.append(check_causality(subject, tolerance=tolerance))
        elif check == "padding":
            verdicts.append(check_padding(subject, tolerance=tolerance))
        elif check == "cache":
            verdicts.append(check_cache(subject))
        else:
            raise ValueError(f"no check is called {check!r}; known: {', '.join(CHECKS)}")
    return Certificate(_describe(subject), tuple(verdicts))


def _describe(subject: Subject) -> str:
    model, inputs = subject.model, subject.inputs
    name = type(model).__name__ if isinstance(model, nn.Module) else str(model)
    count = 0
    if isinstance(model, nn.Module):
        count = sum(p.numel() for p in model.parameters())
    kind = "features" if inputs.is_floating_point() else "token ids"
    dtype = str(inputs.dtype).removeprefix("torch.")
    axes = "batch, sequence" if subject.sequence_axis == 1 else "sequence, batch"
    return (
        f"{name}, {count:,} parameters; {kind} {tuple(inputs.shape)} ({axes}), {dtype}; "
        f"torch {torch.__version__}"
    )
