"""What a comparison's folder holds, gathered for tables and figures."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import damaged
from .contents import read_config, read_held
from .folder import COMPARISON, COSTS, DONE, METRICS, SWEEP
from .metrics import Row, check_whole, read_metrics
from .statistics import Difference, paired_difference

Pair = tuple[str, str]


@dataclass(frozen=True)
class Sweep:
    """Validation losses (infinite where training diverged) by arm and rate."""

    rates: tuple[float, ...]
    seed: int
    losses: dict[str, dict[float, float]]

    def best(self, arm: str) -> float:
        """The rate with the smallest validation loss."""
        return min(self.losses[arm], key=self.losses[arm].__getitem__)

    def at_edge(self, arm: str) -> bool:
        """Whether the best rate is the smallest or largest tried: a better one may lie beyond."""
        return len(self.rates) > 1 and self.best(arm) in (min(self.rates), max(self.rates))


@dataclass(frozen=True)
class ArmResult:
    """One arm over its seeds. ``difference`` is that of the test loss to ``control``."""

    name: str
    says: str
    control: str | None
    runs: list[dict[str, Any]]
    curves: list[list[dict[str, float]]]
    cost: dict[str, float] | None
    difference: Difference | None
    changes: str

    @property
    def measured(self) -> dict[str, float] | None:
        """The cost where its speed and memory were measured here, or None."""
        return self.cost if self.cost and "tokens_per_second" in self.cost else None

    def losses(self, metric: str) -> list[float]:
        """A final metric by seed."""
        return [run["metrics"][metric] for run in self.runs]

    def mean(self, metric: str) -> float:
        """Mean of a final metric over seeds."""
        return statistics.fmean(self.losses(metric))


@dataclass(frozen=True)
class Contrast:
    """Two arms, or two pairs of arms, and how much their test losses differ."""

    name: str
    difference: Difference
    published: float | None = None


@dataclass(frozen=True)
class Results:
    """A whole comparison: losses in ``unit``, lengths in ``token``.

    ``data_names`` are those of the arms' data, each with the plugins of its runs; ``against`` names
    another comparison and the arms that are its runs.
    """

    experiment: str
    says: str
    data: str
    arms: list[ArmResult]
    ceilings: dict[str, float]
    sweep: Sweep | None
    unit: str = "nats per token"
    token: str = "token"
    compared: tuple[Pair, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    floor: float | None = None
    scores: Mapping[str, str] = field(default_factory=dict)
    data_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    against: tuple[str, tuple[str, ...]] | None = None

    @property
    def mixed(self) -> list[str]:
        """A sentence for each version, or processor, that differs among runs."""
        return mixed([run.get("made_with", ({},)) for arm in self.arms for run in arm.runs])

    @property
    def seeds(self) -> int:
        """Seeds per arm."""
        return len(self.arms[0].runs)


def gather(directory: Path) -> Results:
    """Read a comparison's folder.

    Raises ``UserError`` if it is none, or if a run is not finished.
    """
    described = directory / COMPARISON
    if not described.is_file():
        raise UserError(f"{directory} holds no comparison; give the --out of a `resonant compare`")
    comparison = read_held(described)
    _check_names(described, comparison)
    against = comparison.get("against")
    costs = _costs(directory) | _counted(against)
    names = [arm["name"] for arm in comparison["arms"]]
    by_arm = _runs_by_arm(directory, comparison["runs"], names)
    arms = [_arm(each, by_arm, costs, directory) for each in comparison["arms"]]
    return Results(
        comparison["experiment"],
        comparison["says"],
        comparison["data"],
        arms,
        comparison["ceilings"],
        _sweep_of(arms, directory, tuple(against["arms"]) if against else ()),
        comparison.get("unit", "nats per token"),
        comparison.get("token", "token"),
        tuple((ours, theirs) for ours, theirs in comparison.get("compared", ())),
        _contrasts(by_arm, comparison),
        comparison.get("floor"),
        comparison.get("scores", {}),
        dict(_data_name(first_folder(arm, directory)) for arm in arms),
        (against["name"], tuple(against["arms"])) if against else None,
    )


def _arm(
    said: dict[str, Any],
    by_arm: dict[str, list[dict[str, Any]]],
    costs: dict[str, dict[str, float]],
    directory: Path,
) -> ArmResult:
    name, control = said["name"], said["control"]
    ours, theirs = by_arm[name], by_arm.get(control or "")
    difference = None if theirs is None else paired_difference(_tests(ours), _tests(theirs))
    curves, cost = _curves(directory, ours), costs.get(name)
    return ArmResult(name, said["says"], control, ours, curves, cost, difference, said["changes"])


def _curves(directory: Path, runs: list[dict[str, Any]]) -> list[list[Row]]:
    """The metrics of an arm's seeds, which have the same steps."""
    files = [directory / run_name(run) / METRICS for run in runs]
    read = [read_metrics(path) for path in files]
    steps = sorted({row["step"] for rows in read for row in rows})
    for path, rows, run in zip(files, read, runs, strict=True):
        if path.is_file():
            check_whole(path, rows, last=run["steps"], of=steps)
    return read


def _check_names(path: Path, comparison: dict[str, Any]) -> None:
    """Raise ``UserError`` for a description that names an arm which it does not describe."""
    known = {arm["name"] for arm in comparison["arms"]}
    against = comparison.get("against") or {"arms": (), "flops": {}}
    named = [name for pair in comparison.get("compared", ()) for name in pair]
    named += [name for pairs in comparison.get("interactions", ()) for p in pairs for name in p]
    named += [name for *pair, _ in comparison.get("published", ()) for name in pair]
    named += [*against["arms"], *against["flops"]]
    unknown = [name for name in named if name not in known]
    if unknown:
        raise damaged(path, f"it names the arm {unknown[0]!r}, which it does not describe")
    for name in comparison["runs"]:
        if Path(name).name != name or name in (".", ".."):
            raise damaged(path, f"it names the run {name!r}, which is no folder beside it")


def _costs(directory: Path) -> dict[str, dict[str, float]]:
    """What a step of each arm costs, by arm; nothing where it was not measured."""
    if not (directory / COSTS).is_file():
        return {}
    measured = read_held(directory / COSTS)["costs"]
    return {arm: {n: float(x) for n, x in cost.items()} for arm, cost in measured.items()}


def _counted(against: dict[str, Any] | None) -> dict[str, dict[str, float]]:
    """What was counted, not measured, of arms that another comparison trained."""
    flops = {} if against is None else against["flops"]
    return {arm: {"flops_per_token": float(x)} for arm, x in flops.items()}


def _contrasts(
    by_arm: dict[str, list[dict[str, Any]]], comparison: dict[str, Any]
) -> tuple[Contrast, ...]:
    """Pairs beyond each arm and its control, published pairs among them, then interactions."""
    published = {(ours, theirs): x for ours, theirs, x in comparison.get("published", ())}
    pairs = [(ours, theirs) for ours, theirs in comparison.get("compared", ())]
    found = [
        Contrast(
            f"{ours} - {theirs}",
            paired_difference(_tests(by_arm[ours]), _tests(by_arm[theirs])),
            published.get((ours, theirs)),
        )
        for ours, theirs in dict.fromkeys([*published, *pairs])
    ]
    for first, second in comparison.get("interactions", ()):
        each = [
            [a - b for a, b in zip(_tests(by_arm[x]), _tests(by_arm[y]), strict=True)]
            for x, y in (first, second)
        ]
        name = f"({' - '.join(first)}) - ({' - '.join(second)})"
        found.append(Contrast(name, paired_difference(*each)))
    return tuple(found)


def _runs_by_arm(
    directory: Path, names: list[str], arms: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """What finished runs left, in the order of their seeds."""
    runs = [_done(directory / name) for name in names]
    by_arm: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for run in sorted(runs, key=lambda run: run["seed"]):
        if run["arm"] not in by_arm:
            raise damaged(directory / run_name(run) / DONE, f"no arm is called {run['arm']!r}")
        by_arm[run["arm"]].append(run)
    seeds = {arm: [run["seed"] for run in found] for arm, found in by_arm.items()}
    for arm, found in seeds.items():
        if found != next(iter(seeds.values())) or not found or len(set(found)) < len(found):
            raise damaged(
                directory / COMPARISON, f"the seeds of its arms differ: {arm} has {found}"
            )
    return by_arm


def missed_ceilings(results: Results) -> list[str]:
    """A sentence for every arm whose test loss is not below what the experiment demands."""
    missed = []
    for arm in results.arms:
        ceiling = results.ceilings.get(arm.name, results.ceilings.get("*"))
        if ceiling is not None and not arm.mean("test_loss") < ceiling:
            missed.append(
                f"{arm.name} ends at {arm.mean('test_loss'):.3f} {results.unit}, "
                f"not below {ceiling}"
            )
    return missed


def first_folder(arm: ArmResult, directory: Path) -> Path:
    """The folder of an arm's first seed."""
    return directory / run_name(arm.runs[0])


def _sweep_of(arms: list[ArmResult], directory: Path, others: tuple[str, ...]) -> Sweep | None:
    """The sweep that gave these runs their rates, or None; runs of ``others`` have their own."""
    found = read_sweep(directory)
    arms = [arm for arm in arms if arm.name not in others]
    if found is None or not arms or any(arm.name not in found.losses for arm in arms):
        return None
    rates = {arm.name: {run["learning_rate"] for run in arm.runs} for arm in arms}
    return found if all(rates[name] == {found.best(name)} for name in rates) else None


def _data_name(directory: Path) -> tuple[str, tuple[str, ...]]:
    """The name of the data that a run was trained on, and its plugins."""
    values = read_config(directory)
    return values["data"]["name"], tuple(values.get("plugins") or ())


def mixed(made: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
    """A sentence for each version, or processor, that differs among what runs were made with."""
    said = []
    for part in dict.fromkeys(part for each in made for machine in each for part in machine):
        counts = Counter(_in_turn(part, each) for each in made)
        if len(counts) > 1:
            each = ", ".join(f"{value} ({count} runs)" for value, count in counts.items())
            said.append(f"Runs were not all made with one {part}: {each}.")
    return said


def _in_turn(part: str, machines: Sequence[Mapping[str, str]]) -> str:
    """What one run was made with, in turn where it went on elsewhere."""
    return ", then ".join(dict.fromkeys(each.get(part, "unknown") for each in machines))


def run_name(run: dict[str, Any]) -> str:
    """The folder of a finished run, from what it left."""
    return f"{run['arm']}-seed{run['seed']}"


def _tests(runs: list[dict[str, Any]]) -> list[float]:
    return [run["metrics"]["test_loss"] for run in runs]


def _done(directory: Path) -> dict[str, Any]:
    path = directory / DONE
    if not path.is_file():
        raise UserError(
            f"{directory} is not finished; run the same `resonant compare` again, it goes on"
        )
    done = read_held(path)
    if run_name(done) != directory.name:
        raise damaged(path, f"it is of the run {run_name(done)}")
    return done


def read_sweep(directory: Path) -> Sweep | None:
    """The sweep of a comparison's folder, or None if there was none."""
    path = directory / SWEEP
    if not path.is_file():
        return None
    values = read_held(path)
    for arm, by_rate in values["losses"].items():
        if not all(_is_number(rate) for rate in by_rate):
            raise damaged(path, f"the rates of {arm} are not numbers")
    losses = {
        arm: {float(rate): math.inf if loss is None else loss for rate, loss in by_rate.items()}
        for arm, by_rate in values["losses"].items()
    }
    return Sweep(tuple(values["rates"]), values["seed"], losses)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
