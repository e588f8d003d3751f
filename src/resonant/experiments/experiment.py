"""An experiment: a base configuration, and arms that differ from their control in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import UserError, nearest
from ..models.configs import SCALARS
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

    ``ceilings`` map an arm's name, or "*" for every arm, to the largest acceptable mean test loss;
    an experiment that misses one says that it failed.
    """

    name: str
    says: str
    base: RunConfig
    arms: tuple[Arm, ...]
    seeds: int = 3
    ceilings: Mapping[str, float] = field(default_factory=dict)

    def arm(self, name: str) -> Arm:
        """The arm called ``name``; ``UserError`` names the nearest if there is none."""
        known = {arm.name: arm for arm in self.arms}
        if name not in known:
            raise UserError(f"{self.name} has no arm {name!r}; {nearest(name, known)}")
        return known[name]

    def alone(self, name: str) -> Experiment:
        """The experiment with one arm alone, to which any field may then be given."""
        arm = self.arm(name)
        return replace(self, arms=(replace(arm, control=None, changes=self.changes(arm)),))

    def changes(self, arm: Arm) -> dict[str, Any]:
        """All changes from the base, those of its controls first."""
        inherited = {} if arm.control is None else self.changes(self.arm(arm.control))
        return inherited | dict(arm.changes)

    def config(
        self, base: RunConfig, arm: Arm, seed: int, overrides: Mapping[str, Any]
    ) -> RunConfig:
        """The run of ``arm`` under ``seed``.

        ``overrides`` are the user's fields. One that no arm changes goes to every arm; one that
        arms change replaces their value and leaves the other arms as they are (a window of 64 for
        the windowed arms does not give the others a window).
        """
        changed = {name for each in self.arms for name in each.changes}
        everywhere = {name: v for name, v in overrides.items() if name not in changed}
        own = {name: overrides.get(name, v) for name, v in self.changes(arm).items()}
        mechanism = everywhere.get("model.attention.mechanism", base.model.attention.mechanism)
        own = {"model.attention.mechanism": mechanism} | own
        # Starts of learned scalars go to the arms that have them; of your own mechanism, all.
        starts = everywhere.pop("model.attention.scalars", {})
        has = SCALARS.get(own["model.attention.mechanism"], tuple(starts))
        everywhere["model.attention.scalars"] = {n: v for n, v in starts.items() if n in has}
        named = {"experiment": self.name, "arm": arm.name, "seed": seed}
        return replaced(base, everywhere | own | named)
