"""What training asks of a kind of problem, and what it gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from .optimizer import Report

# What ``finish`` writes of every run, beside the facts.
OF_EVERY_RUN = {
    "hash",
    "arm",
    "seed",
    "steps",
    "tokens",
    "learning_rate",
    "metrics",
    "seconds",
    "made_with",
}


@dataclass(frozen=True)
class Outcome:
    """What a trained model is worth.

    Args:
        metrics: numbers by name: ``valid_loss``, ``test_loss``, and what else tables compare
        facts: what else the report shows, as JSON: parameter counts, samples
        arrays: what pictures need, by the name of the file (NAME.npz) and of the array

    Raises ``ValueError`` for metrics without both losses, facts by a name that every run's final
    numbers have, and other names of files.
    """

    metrics: Mapping[str, float]
    facts: Mapping[str, Any]
    arrays: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {"valid_loss", "test_loss"} - self.metrics.keys()
        if missing:
            raise ValueError(f"an Outcome's metrics lack {', '.join(sorted(missing))}")
        if OF_EVERY_RUN & self.facts.keys():
            taken = ", ".join(sorted(OF_EVERY_RUN & self.facts.keys()))
            raise ValueError(f"an Outcome's facts are not called {taken}: every run has those")
        for name in self.arrays:
            if not re.fullmatch(r"[\w-][\w.-]*\.npz", name):
                raise ValueError(f"arrays of an Outcome lie in NAME.npz; {name!r} is not one")


@runtime_checkable
class Task(Protocol):
    """A model with its data: everything that training does not know.

    ``loss(step)`` is the mean loss of the step's batch, a function of the configuration, the seed
    and the step alone. ``evaluate(split)`` is the loss on "valid" or "test" in the same unit.
    """

    @property
    def model(self) -> nn.Module: ...

    def loss(self, step: int) -> Tensor: ...

    def evaluate(self, split: str) -> float: ...

    @property
    def tokens_per_step(self) -> int:
        """Tokens, frames or images per training step."""
        ...

    def finish(self) -> Outcome:
        """Measure the trained model on the validation and the test split."""
        ...

    def save(self, directory: Path) -> None:
        """Write the trained model, loadable on its own."""
        ...


@runtime_checkable
class Divisible(Task, Protocol):
    """A task whose batches can be cut: every row counts alike.

    ``part_loss(step, rows)`` is the mean loss of ``rows`` of the step's batch.
    """

    def part_loss(self, step: int, rows: slice) -> Tensor: ...


@runtime_checkable
class Runner(Protocol):
    """A training of a task: taken up where it was left, then gone through to the end.

    ``seconds`` is how long it took, ``made_with`` what it ran on (``machine.with_this_machine``).
    """

    seconds: float
    made_with: list[dict[str, str]]

    def resume(self) -> None: ...

    def until_done(self, report: Report) -> None: ...
