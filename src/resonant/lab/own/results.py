"""What a comparison of one's own found: scores by arm and seed, their differences, a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import UserError, nearest
from ..kit.grid import Grid, difference_cells, number_form
from ..kit.statistics import Difference, paired_difference

COLUMNS = ("metric", "arm", "mean", "control", "difference", "verdict", "smallest detectable")
VALIDATION = ("valid", "val_", "val-", "dev_", "dev-")  # how names of validation scores begin
ROUNDING = 1e-9  # of the largest value: smaller differences are those of rounding
# score by metric, of a seed, of an arm
Scores = Mapping[str, Mapping[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Compared:
    """The outcome of `resonant.compare`; in a notebook it shows its table.

    Args:
        out: the folder
        says: what was compared
        scores: of every finished run: by arm, seed and metric
        control: the arm that the others are compared with
        seeds: those that were asked for
        better: "lower" or "higher", by metric
        failed: a sentence for every run that failed, by its folder
        notes: further sentences that belong to the table
        write: writes the page and returns its path
        extra: further tables, by heading
        open_model: (arm, seed) -> the trained model; of problems that our loop trained
    """

    out: Path
    says: str
    scores: Scores
    control: str
    seeds: Sequence[int]
    better: Mapping[str, str]
    write: Callable[[Compared], Path]
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    extra: Mapping[str, Grid] = field(default_factory=dict)
    open_model: Callable[[str, int], Any] | None = None

    @property
    def arms(self) -> list[str]:
        """The arms' names."""
        return [*self.scores]

    @property
    def metrics(self) -> list[str]:
        """Names of scores: those with a better way first, those of validation last."""
        runs = [run for by_seed in self.scores.values() for run in by_seed.values()]
        found = dict.fromkeys([*self.better, *(name for run in runs for name in run)])
        present = [name for name in found if any(name in run for run in runs)]
        return sorted(present, key=lambda name: name.startswith(VALIDATION))

    def values(self, arm: str, metric: str) -> list[float]:
        """List an arm's scores by seed; seeds without one are left out.

        Raises ``UserError`` for an arm or a metric that there is not, and where no seed has it.
        """
        self._check(metric, self.metrics)
        problem = self._lacks(arm, metric)
        if problem:
            raise UserError(f"{arm} has no {metric} to compare: {problem}")
        return [self.scores[arm][seed][metric] for seed in self._having(arm, metric)]

    def difference(self, arm: str, metric: str, *, control: str | None = None) -> Difference:
        """Compare an arm's score with the control's: paired by seed, with its interval.

        Only seeds that both have count. Raises ``UserError`` as ``values`` does, and where no seed
        is shared.
        """
        pairs = self.pairs(arm, metric, control=control)
        if not pairs:
            raise UserError(f"no seed has {metric} of both {arm} and {control or self.control}")
        return paired_difference([ours for ours, _ in pairs], [theirs for _, theirs in pairs])

    def pairs(
        self, arm: str, metric: str, *, control: str | None = None
    ) -> list[tuple[float, float]]:
        """List the scores of an arm and of the control by the seeds that have both.

        Raises ``UserError`` as ``values`` does.
        """
        other = control or self.control
        for each in (arm, other):
            self.values(each, metric)
        shared = [x for x in self._having(arm, metric) if x in self._having(other, metric)]
        return [(self.scores[arm][x][metric], self.scores[other][x][metric]) for x in shared]

    def are_compared(self, arm: str, metric: str) -> bool:
        """Say whether a seed has a metric of both the arm and the control."""
        theirs = self._having(self.control, metric)
        return any(seed in theirs for seed in self._having(arm, metric))

    def _having(self, arm: str, metric: str) -> list[int]:
        """The seeds of an arm that have a metric, in order."""
        self._check(arm, self.arms)
        return [seed for seed in self.seeds if metric in self.scores[arm].get(seed, {})]

    @staticmethod
    def _check(name: str, known: Sequence[str]) -> None:
        if name not in known:
            raise UserError(f"there is no {name!r} here; {nearest(name, known)}")

    @property
    def table(self) -> Grid:
        """Means, paired differences, verdicts and the smallest detectable effects."""
        rows = [self._row(metric, arm) for metric in self.metrics for arm in self.arms]
        return Grid(COLUMNS, rows, "\n".join([self._legend(), *self.sentences]))

    @property
    def sentences(self) -> list[str]:
        """What a reader of the table must know: failures, gaps, arms that are the same."""
        failed = [f"FAILED: {said}." for said in self.failed.values()]
        return [*failed, *self._gaps(), *self._strangers(), *self._twins(), *self.notes]

    def model(self, arm: str, seed: int | None = None) -> Any:
        """Open the trained model of an arm, under the first seed unless you say which.

        Raises ``UserError`` for a comparison of functions, which keep their models themselves.
        """
        if self.open_model is None:
            raise UserError(
                "train_and_score keeps its models itself: write them into run.folder, and read "
                f"them from {self.out}/ARM-seedN"
            )
        chosen = self.seeds[0] if seed is None else seed
        self._check(arm, self.arms)
        if chosen not in self.scores[arm]:
            done = ", ".join(str(each) for each in self.scores[arm]) or "none"
            raise UserError(f"{arm} has no finished run of seed {chosen!r}; finished are: {done}")
        return self.open_model(arm, chosen)

    def report(self) -> Path:
        """Write the page, one file that needs nothing else; returns its path."""
        return self.write(self)

    def __str__(self) -> str:
        tables = [("", self.table), *self.extra.items()]
        return "\n\n".join(f"{name}\n{grid}".strip() for name, grid in tables)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(grid._repr_html_() for grid in (self.table, *self.extra.values()))

    def _lacks(self, arm: str, metric: str) -> str:
        """Why an arm has no mean of a metric; "" if it has one."""
        if self._having(arm, metric):
            return ""
        lost = [seed for seed in self.seeds if seed not in self.scores[arm]]
        if lost:
            return f"{_seeds(lost)} {'failed' if self.failed else 'not finished'}"
        return f"none in {_seeds(self.seeds)}"

    def _row(self, metric: str, arm: str) -> list[str]:
        problem = self._lacks(arm, metric)
        if problem:
            return [metric, arm, "", "" if arm == self.control else self.control, "", problem, ""]
        digits = self.digits(metric)
        mean = f"{statistics.fmean(self.values(arm, metric)):{number_form(digits)}}"
        if arm == self.control:
            return [metric, arm, mean, "", "", "", ""]
        if self._lacks(self.control, metric):
            return [metric, arm, mean, self.control, "", "the control has none", ""]
        if not self.are_compared(arm, metric):
            return [metric, arm, mean, self.control, "", "no seed of both", ""]
        found = self.difference(arm, metric)
        control, by, verdict, seen = difference_cells(self.control, found, digits=digits)
        return [metric, arm, mean, control, by, self.judged(metric, verdict), seen]

    def judged(self, metric: str, verdict: str) -> str:
        """A verdict in terms of better and worse where the metric says which way that is."""
        if verdict not in ("lower", "higher") or metric not in self.better:
            return verdict
        return "better" if verdict == self.better[metric] else "worse"

    def digits(self, metric: str) -> int:
        """Decimals that show four digits of a metric's means and two of its intervals."""
        whole = [arm for arm in self.arms if not self._lacks(arm, metric)]
        values = [abs(x) for arm in whole for x in self.values(arm, metric)]
        largest = max(values, default=0.0)
        found = 4 - _exponent(largest)
        if not self._lacks(self.control, metric):
            others = [arm for arm in whole if arm != self.control]
            each = [self.difference(a, metric) for a in others if self.are_compared(a, metric)]
            small = [x for d in each for x in (d.half_width, abs(d.mean)) if x]
            small = [x for x in small if x > ROUNDING * largest]
            found = max([found, *(2 - _exponent(x) for x in small)])
        return max(found, 0)

    def _legend(self) -> str:
        ways = ", ".join(f"{name} {way}" for name, way in self.better.items())
        return (
            f"Means over {_seeds(self.seeds)}. Differences are arm minus control, paired by seed, "
            "with their 95 % interval. Smallest detectable: the true difference that these seeds "
            "would have shown in 80 % of repetitions." + (f" Better is: {ways}." if ways else "")
        )

    def _gaps(self) -> list[str]:
        """A sentence for what some seeds of an arm have and others lack."""
        found = []
        for arm, runs in self.scores.items():
            lost = [seed for seed in self.seeds if seed not in runs]
            if runs and lost:
                found.append(
                    f"{arm} has no scores of {_seeds(lost)}: its rows stand on "
                    f"{_seeds([*runs])} alone, and may flatter it."
                )
            for metric in self.metrics:
                has = [seed for seed in runs if metric in runs[seed]]
                gone = [seed for seed in runs if metric not in runs[seed]]
                if has and gone:
                    found.append(
                        f"{arm} returns {metric} in {_seeds(has)}, but not in {_seeds(gone)}: "
                        "its row stands on those that have it, and may flatter it."
                    )
        return found

    def _strangers(self) -> list[str]:
        """A sentence for every name in ``better`` that no run returns."""
        return [
            f"better names {name!r}, which no run returns; {nearest(name, self.metrics)}."
            for name in self.better
            if name not in self.metrics
        ]

    def _twins(self) -> list[str]:
        """A sentence for two arms whose scores are the same to the last digit."""
        found = []
        for index, ours in enumerate(self.arms):
            for theirs in self.arms[:index]:
                if self.scores[ours] and self.scores[ours] == self.scores[theirs]:
                    found.append(
                        f"{ours} and {theirs} have the very same scores in every seed: check that "
                        "train_and_score uses its arm."
                    )
        return found


def _exponent(value: float) -> int:
    """Digits before the point: 0 for 0.5, 3 for 123, -2 for 0.005."""
    return math.floor(math.log10(value)) + 1 if value > 0 else 0


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds in words, the first few of many."""
    shown = ", ".join(str(seed) for seed in seeds[:6])
    more = f" and {len(seeds) - 6} more" if len(seeds) > 6 else ""
    return f"seed{'s' if len(seeds) > 1 else ''} {shown}{more}"
