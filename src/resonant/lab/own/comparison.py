"""A comparison of one's own as a record, and the runs that it means."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...errors import UserError, nearest
from ..kit.config import flatten
from ..kit.contents import read_held
from ..kit.identity import Untellable, digest, parts
from ..problem.problem import Problem
from .folder import HELD_RUN, HELD_SCORES, RUN, SCORES

MOST_SEEDS, MOST_RUNS = 1000, 10_000
DIRECTIONS = ("lower", "higher")
VALIDATION = ("valid", "val_", "val-", "dev_", "dev-")  # how names of validation scores begin
NAME = re.compile(r"[\w@=+][\w@=+.-]*")
PLAIN = (type(None), bool, int, float, str)


@dataclass(frozen=True)
class Comparison:
    """Arms, and what trains and scores them: what `resonant compare MODULE:NAME` runs.

    Args:
        arms: by name, any values: ``train_and_score`` is given them
        train_and_score: (arm, seed, run) -> scores by name (``run`` is a ``Run``); or a
            ``Problem``, which our loop trains
        control: the arm that the others are compared with ("": the first)
        seeds: how many, or which
        better: which way scores are better, "lower" or "higher", by name
        sweep: values to try under the first seed, by name; they stand in ``run.config``
        choose_by: the validation score by which each arm's values are chosen
        config: a dataclass of your own, given as ``run.config``; its fields are options
        says: what is compared, in a few words

    Raises ``UserError`` for what cannot be compared.
    """

    arms: Mapping[str, Any]
    train_and_score: Callable[..., Any] | Problem
    control: str = ""
    seeds: int | Sequence[int] = 3
    better: Mapping[str, str] = field(default_factory=dict)
    sweep: Mapping[str, Sequence[Any]] | None = None
    choose_by: str | None = None
    config: Any = None
    says: str = ""

    def __post_init__(self) -> None:
        _check_arms(self.arms)
        if not isinstance(self.train_and_score, Problem) and not callable(self.train_and_score):
            raise UserError(
                "train_and_score is a function (arm, seed, run) that returns scores by name, or a "
                f"Problem; it is a {type(self.train_and_score).__name__}"
            )
        if self.control and self.control not in self.arms:
            raise UserError(f"the control {self.control!r} is no arm; {_near(self, 'control')}")
        for name, way in self.better.items():
            if way not in DIRECTIONS:
                raise UserError(f"better[{name!r}] is 'lower' or 'higher'; it is {way!r}")
        _check_seeds(self.seed_list)
        _check_sweep(self)

    @property
    def control_name(self) -> str:
        """The arm that the others are compared with."""
        return self.control or next(iter(self.arms))

    @property
    def seed_list(self) -> list[int]:
        """The seeds, in order."""
        return [*range(self.seeds)] if isinstance(self.seeds, int) else [*self.seeds]

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Every choice of one value a swept name."""
        names = [*(self.sweep or {})]
        for values in itertools.product(*(self.sweep or {}).values()):
            yield dict(zip(names, values, strict=True))

    def only(self, arms: Sequence[str]) -> Comparison:
        """The comparison of these arms alone, without which the control would have no meaning."""
        for name in arms:
            if name not in self.arms:
                raise UserError(f"there is no arm {name!r}; {nearest(name, self.arms)}")
        kept = {name: value for name, value in self.arms.items() if name in arms}
        control = self.control_name if self.control_name in kept else ""
        return dataclasses.replace(self, arms=kept, control=control)


@dataclass(frozen=True)
class OwnRun:
    """One run: an arm under a seed, with values of the sweep."""

    arm: str
    seed: int
    chosen: Mapping[str, Any]
    stands_on: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The run's folder."""
        values = "".join(f"-{key}={_word(value)}" for key, value in self.chosen.items())
        return f"{self.arm}{values}-seed{self.seed}"

    @property
    def hash(self) -> str:
        """What its scores belong to."""
        said = json.dumps([self.arm, self.seed, self.stands_on], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def is_done(self, out: Path) -> bool:
        """Whether the run's scores are there and are of this very configuration."""
        path = out / self.name / SCORES
        return path.is_file() and read_held(path, HELD_SCORES)["hash"] == self.hash


def configuration(comparison: Comparison, chosen: Mapping[str, Any]) -> Any:
    """What a run is given as ``run.config``."""
    if comparison.config is None:
        return SimpleNamespace(**chosen)
    return dataclasses.replace(comparison.config, **chosen)


def plan_runs(
    comparison: Comparison, chosen: Mapping[str, Sequence[Mapping[str, Any]]], seeds: Sequence[int]
) -> list[OwnRun]:
    """The runs of each arm with its ``chosen`` values, ordered so that seeds complete.

    Raises ``UserError`` for arms, or a configuration, of whose content nothing can be said.
    """
    function = _told("train_and_score", comparison.train_and_score, parts)
    arms = {name: _told(f"the arm {name!r}", value) for name, value in comparison.arms.items()}
    for (first, ours), (second, theirs) in itertools.combinations(arms.items(), 2):
        if ours == theirs:
            raise UserError(
                f"the arms {first!r} and {second!r} are the same; leave one out, or make them "
                "differ in what is compared"
            )
    runs = []
    for seed in seeds:
        for name in comparison.arms:
            for values in chosen[name]:
                config = _plain(configuration(comparison, values))
                on = {"train_and_score": function, "arm": arms[name], "config": config}
                runs.append(OwnRun(name, seed, values, json.loads(json.dumps(on))))
    if len(runs) > MOST_RUNS:
        raise UserError(f"{len(runs)} runs are more than {MOST_RUNS}; give fewer arms or values")
    return runs


def check_folder(run: OwnRun, out: Path) -> None:
    """Raise ``UserError`` if the run's folder holds one that stands on something else."""
    path = out / run.name / RUN
    if not path.is_file():
        return
    old, new = (flatten(dict(x)) for x in (read_held(path, HELD_RUN)["stands_on"], run.stands_on))
    names = [*old, *(name for name in new if name not in old)]
    changed = [name for name in names if old.get(name) != new.get(name)]
    if changed:
        what = ", ".join(_in_words(name, old, new) for name in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{out / run.name} holds a run of another configuration ({what}{more}); choose another "
            "out, or overwrite it: --overwrite, overwrite=True"
        )


def _in_words(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What changed: values of a configuration as they were, code by its name alone."""
    if name.startswith("config."):
        return f"{name} was {old.get(name)}, is {new.get(name)}"
    return f"{'the arm itself' if name == 'arm' else name} changed"


def _told(what: str, value: Any, of: Callable[[Any], Any] = digest) -> Any:
    try:
        return of(value)
    except Untellable as error:
        raise UserError(
            f"{what} holds {error}, so a changed one could not be told from it; make that inside "
            "train_and_score"
        ) from error


def _plain(config: Any) -> dict[str, Any]:
    """Fields of a configuration as they read, those that are no plain values by their hashes."""
    if dataclasses.is_dataclass(config):
        held = {each.name: getattr(config, each.name) for each in dataclasses.fields(config)}
    else:
        held = vars(config)
    return {
        name: value if type(value) in PLAIN else _told(f"config.{name}", value)
        for name, value in held.items()
    }


def _word(value: Any) -> str:
    """A swept value in a folder's name."""
    return re.sub(r"[^\w.+-]", "_", str(value))[:40]


def _near(comparison: Comparison, name: str) -> str:
    return nearest(getattr(comparison, name), comparison.arms)


def _check_arms(arms: Mapping[str, Any]) -> None:
    if not isinstance(arms, Mapping) or not arms:
        raise UserError("arms are given by name, at least one: {'softmax': ..., 'krause': ...}")
    for name in arms:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(
                f"an arm's name is that of a folder: letters, digits and _ @ = + . -; {name!r} "
                "is not"
            )


def _check_seeds(seeds: Sequence[int]) -> None:
    whole = all(type(seed) is int and 0 <= seed < 2**63 for seed in seeds)
    if not 1 <= len(seeds) <= MOST_SEEDS or not whole or len(set(seeds)) < len(seeds):
        raise UserError(
            f"seeds are how many (1 to {MOST_SEEDS}), or different whole numbers from 0; they are "
            f"{seeds[:10]}"
        )


def _check_sweep(comparison: Comparison) -> None:
    sweep, by, config = comparison.sweep, comparison.choose_by, comparison.config
    if config is not None and (not dataclasses.is_dataclass(config) or isinstance(config, type)):
        raise UserError(f"config is an instance of a dataclass; it is a {type(config).__name__}")
    if isinstance(comparison.train_and_score, Problem):
        _check_sweep_of_problem(comparison)
        return
    if bool(sweep) != bool(by):
        raise UserError(
            'sweep and choose_by go together: sweep={"lr": [0.001, 0.01]}, choose_by="valid_mse"'
        )
    if not sweep or by is None:
        return
    if not by.startswith(VALIDATION):
        raise UserError(
            f"values are chosen by a score of the validation split, never of the test split: its "
            f"name begins with valid, val_ or dev_; choose_by is {by!r}"
        )
    if by not in comparison.better:
        raise UserError(f"better[{by!r}] must say which way it is better, 'lower' or 'higher'")
    known = [*sweep] if config is None else [each.name for each in dataclasses.fields(config)]
    for name, values in sweep.items():
        if name not in known:
            raise UserError(f"the swept {name!r} is no field of config; {nearest(name, known)}")
        if isinstance(values, str) or len({_word(x) for x in values}) < max(len(values), 1):
            raise UserError(f"sweep[{name!r}] is a list of different values; it is {values!r}")


def _check_sweep_of_problem(comparison: Comparison) -> None:
    if comparison.config is not None:
        raise UserError("a Problem's configuration is its own fields; leave out config")
    if comparison.sweep is None:
        return
    rates = [*comparison.sweep.get("learning_rate", ())]
    plain = rates and all(type(rate) in (int, float) and 0 < rate < math.inf for rate in rates)
    if [*comparison.sweep] != ["learning_rate"] or not plain:
        raise UserError(
            'a Problem sweeps its learning rate: sweep={"learning_rate": [0.001, 0.004]}; it is '
            f"{comparison.sweep!r}"
        )
    if comparison.choose_by not in (None, "valid_loss"):
        raise UserError("rates of a Problem are chosen by valid_loss; leave out choose_by")
