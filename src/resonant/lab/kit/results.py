"""What a comparison's folder holds, gathered for tables and figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import damaged, read_json
from .folder import COMPARISON, CONFIG, COSTS, DONE, METRICS, read_config
from .metrics import read_metrics
from .rates import Sweep, read_sweep
from .statistics import Difference, paired_difference

Pair = tuple[str, str]


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
    comparison = read_json(described)
    against = comparison.get("against")
    costs = _costs(directory) | _counted(against)
    by_arm, arms = _runs_by_arm(directory, comparison["runs"]), []
    for arm in comparison["arms"]:
        name, control = arm["name"], arm["control"]
        ours, theirs = by_arm[name], by_arm.get(control or "")
        curves = [read_metrics(directory / run_name(run) / METRICS) for run in ours]
        difference = None if theirs is None else paired_difference(_tests(ours), _tests(theirs))
        arms.append(
            ArmResult(
                name,
                arm["says"],
                control,
                ours,
                curves,
                costs.get(name),
                difference,
                arm["changes"],
            )
        )
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


def _costs(directory: Path) -> dict[str, dict[str, float]]:
    """What a step of each arm costs, by arm; nothing where it was not measured."""
    if not (directory / COSTS).is_file():
        return {}
    measured = read_json(directory / COSTS)["costs"]
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


def _runs_by_arm(directory: Path, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """What finished runs left, in the order of their seeds."""
    runs = [_done(directory / name) for name in names]
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        by_arm.setdefault(run["arm"], []).append(run)
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
    try:
        return values["data"]["name"], tuple(values.get("plugins") or ())
    except (KeyError, TypeError) as error:
        raise damaged(directory / CONFIG) from error


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
    return read_json(path)
