"""What an experiment is: a base configuration and arms that differ from their control in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..training.configs import RunConfig, replaced


@dataclass(frozen=True)
class Arm:
    """One thing to compare.

    ``changes`` are fields by dotted name, relative to the arm ``control`` (None: to the base), and
    are what the arm is about: exactly one field for every arm with a control.
    """

    name: str
    says: str
    control: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """Arms on one data set with one budget. ``ceilings`` are losses (nats) an arm must get below.

    ``ceilings`` map an arm's name, or "*" for every arm, to the largest acceptable validation loss;
    an experiment that misses one says that it failed.
    """

    name: str
    says: str
    base: RunConfig
    arms: tuple[Arm, ...]
    seeds: int = 3
    ceilings: Mapping[str, float] = field(default_factory=dict)

    def arm(self, name: str) -> Arm:
        """The arm called ``name``."""
        return next(arm for arm in self.arms if arm.name == name)

    def changes(self, arm: Arm) -> dict[str, Any]:
        """All changes from the base, those of its controls first."""
        inherited = {} if arm.control is None else self.changes(self.arm(arm.control))
        return inherited | dict(arm.changes)

    def config(self, base: RunConfig, arm: Arm, seed: int) -> RunConfig:
        """The run of ``arm`` under ``seed``, from ``base`` with the user's own fields in it."""
        named = {"experiment": self.name, "arm": arm.name, "seed": seed}
        return replaced(base, self.changes(arm) | named)
