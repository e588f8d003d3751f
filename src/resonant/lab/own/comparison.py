"""A comparison of one's own as a record, and the runs that it means."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ...errors import UserError, in_words, nearest
from ..kit.code.identity import Untellable, digest, home_of, parts
from ..kit.code.registered import registered_code
from ..kit.config import flatten
from ..kit.contents import read_held
from ..problem.problem import Problem
from .checks import as_read, check_comparison, check_kinds, is_plain, of_python, word_of
from .folder import HELD_RUN, HELD_SCORES, RUN, SCORES

MOST_RUNS = 10_000
HASH = re.compile(r"[0-9a-f]{64}")


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
        check_kinds(self)
        if self.sweep:
            object.__setattr__(self, "sweep", of_python(self.sweep))
        check_comparison(self)

    @property
    def control_name(self) -> str:
        """The arm that the others are compared with."""
        return self.control or next(iter(self.arms))

    @property
    def is_of_a_problem(self) -> bool:
        """Whether our loop trains."""
        return isinstance(self.train_and_score, Problem)

    @property
    def seed_list(self) -> list[int]:
        """The seeds, in order."""
        given: Any = self.seeds
        if isinstance(given, Integral):
            return [*range(int(given))]
        return [int(seed) for seed in given]

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
        values = "".join(f"-{key}={word_of(value)}" for key, value in self.chosen.items())
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
    try:
        return dataclasses.replace(comparison.config, **chosen)
    except (TypeError, ValueError) as error:
        said = ", ".join(f"{name} = {value!r}" for name, value in chosen.items())
        raise UserError(f"config does not take {said} ({in_words(error)}); sweep others") from error


@dataclass(frozen=True)
class Standing:
    """What the runs of a comparison stand on: hashes of the function and of its arms."""

    function: Mapping[str, str]
    arms: Mapping[str, str]
    beside: Mapping[str, Any]
    home: str | None


def stand(comparison: Comparison) -> Standing:
    """Hash the function and the arms, before any run can change them.

    Raises ``UserError`` for those of whose content nothing can be said, and for equal arms.
    """
    home = home_of(comparison.train_and_score)
    function = told("train_and_score", comparison.train_and_score, parts)
    arms = {
        name: told(f"the arm {name!r}", value, lambda each: digest(each, home))
        for name, value in comparison.arms.items()
    }
    for (first, ours), (second, theirs) in itertools.combinations(arms.items(), 2):
        if ours == theirs:
            raise UserError(
                f"the arms {first!r} and {second!r} are the same; leave one out, or make them "
                "differ in what is compared"
            )
    beside: dict[str, Any] = {"registered": registered_code()}
    if comparison.config is not None:
        beside["class of config"] = told(
            "config", type(comparison.config), lambda x: digest(x, home)
        )
    return Standing(function, arms, beside, home)


def plan_runs(
    comparison: Comparison,
    known: Standing,
    chosen: Mapping[str, Sequence[Mapping[str, Any]]],
    seeds: Sequence[int],
) -> list[OwnRun]:
    """The runs of each arm with its ``chosen`` values, ordered so that seeds complete.

    Raises ``UserError`` for a configuration of whose content nothing can be said.
    """
    runs = []
    for seed in seeds:
        for name in comparison.arms:
            for values in chosen[name]:
                config = _plain(configuration(comparison, values), known.home)
                on = {"train_and_score": known.function, "arm": known.arms[name], "config": config}
                on |= known.beside
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
    if name.startswith("config.") and not any(HASH.fullmatch(str(x.get(name))) for x in (old, new)):
        return f"{name} was {old.get(name)}, is {new.get(name)}"
    return f"{'the arm itself' if name == 'arm' else name} changed"


def told(what: str, value: Any, of: Callable[[Any], Any] = digest) -> Any:
    """Hash a value of the user's, by ``of``; ``UserError`` says which one cannot be hashed."""
    try:
        return of(value)
    except Untellable as error:
        raise UserError(
            f"{what} holds {error}, so a changed one could not be told from it; make that inside "
            "train_and_score"
        ) from error
    except RecursionError as error:
        raise UserError(
            f"{what} is nested too deeply to be told from a changed one; make it inside "
            "train_and_score"
        ) from error


def _plain(config: Any, home: str | None) -> dict[str, Any]:
    """Fields of a configuration as they read, those that are no plain values by their hashes."""
    if dataclasses.is_dataclass(config):
        held = {each.name: getattr(config, each.name) for each in dataclasses.fields(config)}
    else:
        held = vars(config)
    return {
        name: as_read(value)
        if is_plain(value)
        else told(f"config.{name}", value, lambda each: digest(each, home))
        for name, value in held.items()
    }
