"""What the checks of a model found, to print and to keep."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import in_words
from ..nn.modes import evaluating
from .cache import check_cache
from .calls import Subject
from .causality import check_causality
from .padding import check_padding
from .verdict import Part, Verdict, silent

CHECKS = ("causality", "padding", "cache")


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
    subject: Subject,
    checks: tuple[str, ...] = CHECKS,
    *,
    tolerance: float = 0.0,
    part: Part = silent,
) -> Certificate:
    """Make the ``checks`` of ``subject``.

    ``tolerance`` is the largest absolute difference to forgive where bits should be equal
    (replaced futures, contents of padding). ``part`` begins a part of the work, by its name and
    length, and returns what receives how much of it is done.

    Raises ``ValueError`` for an unknown check, a tolerance below 0, and a model that cannot be
    called.
    """
    for check in checks:
        if check not in CHECKS:
            raise ValueError(f"no check is called {check!r}; known: {', '.join(CHECKS)}")
    if not 0.0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance is a number from 0 on; it is {tolerance}")
    try:
        with evaluating(subject.model):
            subject.call(subject.rows(subject.inputs))
    except Exception as error:  # a stranger's model may raise anything
        shape = tuple(subject.inputs.shape)
        raise ValueError(
            f"the model cannot be called with inputs of shape {shape} ({in_words(error)})"
        ) from error
    make: dict[str, Callable[[], Verdict]] = {
        "causality": lambda: check_causality(subject, tolerance=tolerance, part=part),
        "padding": lambda: check_padding(subject, tolerance=tolerance),
        "cache": lambda: check_cache(subject, part=part),
    }
    return Certificate(_describe(subject), tuple(make[check]() for check in checks))


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
