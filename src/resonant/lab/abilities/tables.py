"""Mechanisms by abilities: what each can do by itself."""

from __future__ import annotations

from collections.abc import Mapping

from ..alignment.conditions import LONG
from ..kit.grid import Grid
from ..kit.results import ArmResult, Results
from ..kit.statistics import paired_difference

WORSE, BETTER = "▼", "▲"
MARKS = {"lower": f" {WORSE}", "higher": f" {BETTER}"}  # of scores, where more is better


def ability_tables(results: Results) -> dict[str, Grid]:
    """Scores by mechanism and ability, as trained and twice as long; nothing without scores."""
    if not results.scores:
        return {}
    return {
        "Mechanism by ability": _table(results, results.scores, "sequences as long as in training"),
        "The same in sequences twice as long": _table(
            results,
            {a: f"{metric.partition('@')[0]}@{LONG}" for a, metric in results.scores.items()},
            "sequences twice as long",
        ),
    }


def _table(results: Results, scores: Mapping[str, str], where: str) -> Grid:
    by_name = {arm.name: arm for arm in results.arms}
    rows: dict[str, dict[str, str]] = {}
    for arm in results.arms:
        mechanism, _, ability = arm.name.rpartition("-")
        control = by_name.get(f"softmax-{ability}")
        rows.setdefault(mechanism, {})[ability] = _cell(arm, control, scores[ability])
    present = [a for a in scores if any(a in row for row in rows.values())]
    return Grid(
        ("arm", *present),
        [[name, *(row.get(ability, "") for ability in present)] for name, row in rows.items()],
        f"Share of right answers (alignment: of frames on the right symbol), test split, {where}; "
        f"mean of {results.seeds} seeds ± half the 95 % interval. {BETTER} better, {WORSE} worse "
        "than softmax by a difference, paired by seed, whose 95 % interval leaves out zero (one "
        "in twenty comparisons without a difference is marked too); empty: not run (clocks and "
        "mixtures, which align two sequences, cannot be).",
    )


def _cell(arm: ArmResult, control: ArmResult | None, metric: str) -> str:
    values = arm.losses(metric)
    own = paired_difference(values, [0.0] * len(values))
    spread = "" if own.half_width is None else f" ± {own.half_width:.3f}"
    mark = ""
    if control is not None and control is not arm:
        versus = paired_difference(values, control.losses(metric))
        if f"{abs(versus.mean):.3f}" != "0.000":  # what is not printed is not judged
            mark = MARKS.get(versus.verdict, "")
    return f"{arm.mean(metric):.3f}{spread}{mark}"
