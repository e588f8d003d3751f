"""An experiment: a base configuration, and arms that differ from their control in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import UserError, nearest
from ...mechanism import known_mechanism
from ...models.fields import fixed_options
from .config import Data, Model, RunConfig, TrainingConfig, plain, replaced

SCALAR_STARTS = "model.attention.scalars"
Pair = tuple[str, str]  # an arm, and what it is compared with
MECHANISM = "model.attention.mechanism"
PARTS = ("model", "data", "training")  # of a run, which an arm may have of its own


@dataclass(frozen=True)
class Arm:
    """One thing to compare.

    ``changes`` are fields by dotted name, relative to the arm ``control`` (None: to the base), and
    are what the arm is about: exactly one field for every arm with a control, or another ``model``
    of the same size. ``data`` and ``training`` are its own (None: those of its control, or the
    base).
    ``learning_rate`` is the arm's own, found by ``--sweep lr`` over the rates that its control was
    given too (None: that of the control, or the base).
    """

    name: str
    says: str
    control: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    model: Model | None = None
    data: Data | None = None
    training: TrainingConfig | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class Experiment:
    """Arms on one data set with one budget, losses in ``unit``, lengths in ``token``.

    ``compared`` are further pairs of arms to show beside each arm and its control, ``interactions``
    pairs of pairs: how much more the first differ than the second. ``published`` are differences of
    pairs as a paper reports them, at its own size and on its own split. ``floor`` is the least loss
    that an honest model can reach, where it is known.

    Arms of an experiment with ``scores`` are called MECHANISM-ABILITY; the metric that ``scores``
    gives for an ability, larger is better, makes a table of mechanisms by abilities.

    ``ceilings`` map an arm's name, or "*" for every arm, to the largest acceptable mean test loss;
    an experiment that misses one says that it failed.
    """

    name: str
    says: str
    base: RunConfig
    arms: tuple[Arm, ...]
    seeds: int = 3
    ceilings: Mapping[str, float] = field(default_factory=dict)
    unit: str = "nats per token"
    token: str = "token"
    compared: tuple[Pair, ...] = ()
    interactions: tuple[tuple[Pair, Pair], ...] = ()
    published: Mapping[Pair, float] = field(default_factory=dict)
    floor: float | None = None
    scores: Mapping[str, str] = field(default_factory=dict)

    def arm(self, name: str) -> Arm:
        """The arm called ``name``; ``UserError`` names the nearest if there is none."""
        known = {arm.name: arm for arm in self.arms}
        if name not in known:
            raise UserError(f"{self.name} has no arm {name!r}; {nearest(name, known)}")
        return known[name]

    def alone(self, name: str) -> Experiment:
        """The experiment with one arm alone, to which any field may then be given."""
        arm = self.arm(name)
        own = {name: self._own(arm, name) for name in (*PARTS, "learning_rate")}
        return replace(self, arms=(replace(arm, control=None, changes=self.changes(arm), **own),))

    def model(self, arm: Arm) -> Model | None:
        """The model of the arm or of the nearest of its controls that has its own."""
        return self._own(arm, "model")

    def learning_rate(self, arm: Arm) -> float | None:
        """The rate of the arm or of the nearest of its controls that has its own."""
        return self._own(arm, "learning_rate")

    def _own(self, arm: Arm, name: str) -> Any:
        """A field of the arm or of the nearest of its controls that has its own; None if none."""
        value = getattr(arm, name)
        if value is not None or arm.control is None:
            return value
        return self._own(self.arm(arm.control), name)

    def changes(self, arm: Arm) -> dict[str, Any]:
        """All changes from the base, those of its controls first."""
        inherited = {} if arm.control is None else self.changes(self.arm(arm.control))
        return inherited | dict(arm.changes)

    def _about(self, base: RunConfig, arm: Arm) -> set[str]:
        """Fields in which own models of the arm and its controls differ from those before them."""
        if arm.control is None:
            return set()
        control = self.arm(arm.control)
        ours, theirs = (self.model(each) or base.model for each in (arm, control))
        inherited = self._about(base, control)
        if type(ours) is not type(theirs):
            return inherited
        before, after = (plain(replace(base, model=each)) for each in (theirs, ours))
        return inherited | {name for name, value in after.items() if before.get(name) != value}

    def config(
        self, base: RunConfig, arm: Arm, seed: int, overrides: Mapping[str, Any]
    ) -> RunConfig:
        """The run of ``arm`` under ``seed``.

        ``overrides`` are the user's fields. One that no arm changes goes to every arm whose model
        has it; one that arms change replaces their value and leaves the other arms as they are (a
        window of 64 for the windowed arms does not give the others a window). What the own model of
        an arm changes of its control's model counts as changed by that arm, where others change it.
        """
        start = replace(base, **{n: self._own(arm, n) or getattr(base, n) for n in PARTS})
        has = set(plain(start))
        has |= {SCALAR_STARTS} if MECHANISM in has else set()
        changed = {name for each in self.arms for name in each.changes}
        everywhere = {n: v for n, v in overrides.items() if n not in changed and n in has}
        own = {name: overrides.get(name, v) for name, v in self.changes(arm).items()}
        about = self._about(base, arm) & changed
        own |= {name: value for name, value in overrides.items() if name in about}
        if MECHANISM in has:
            own = _with_mechanism(start, everywhere, own)
            starts = everywhere.pop(SCALAR_STARTS, {})
            everywhere[SCALAR_STARTS] = _starts(start, own[MECHANISM], starts)
        rate = self.learning_rate(arm)
        if rate is not None:
            everywhere = {"training.learning_rate": rate} | everywhere
        named = {"experiment": self.name, "arm": arm.name, "seed": seed}
        try:
            return replaced(start, everywhere | own | named)
        except ValueError as error:
            raise UserError(f"arm {arm.name!r}: {error}") from error


def _with_mechanism(
    start: RunConfig, everywhere: dict[str, Any], own: dict[str, Any]
) -> dict[str, Any]:
    """``own`` with the mechanism: the arm's, else the user's, else that of the model.

    A model that is about its mechanism (see ``fields.fixing``) keeps it.
    """
    theirs = plain(start)[MECHANISM]
    if MECHANISM in fixed_options(start.model, "model"):
        return own | {MECHANISM: theirs}
    return {MECHANISM: everywhere.get(MECHANISM, theirs)} | own


def _starts(start: RunConfig, mechanism: str, given: Mapping[str, float]) -> dict[str, float]:
    """Starts of learned scalars for the arms that have them; of your own mechanism, all."""
    starts = {**start.model.attention.scalars, **given}  # type: ignore[attr-defined]
    known = known_mechanism(mechanism)
    names = tuple(starts) if known is None else known.scalar_names
    return {name: value for name, value in starts.items() if name in names}


def locality_arms(window: int, top_k: int) -> tuple[Arm, ...]:
    """From softmax to Krause with window and top-k, one change at a time."""
    return (
        Arm("softmax", "softmax over the whole past"),
        Arm(
            "softmax-window",
            "softmax over a window of the past",
            control="softmax",
            changes={"model.attention.window": window},
        ),
        Arm(
            "krause-window",
            "Krause over the same window",
            control="softmax-window",
            changes={"model.attention.mechanism": "krause"},
        ),
        Arm(
            "krause-window-topk",
            "Krause over the nearest keys in the window",
            control="krause-window",
            changes={"model.attention.top_k": top_k},
        ),
    )
