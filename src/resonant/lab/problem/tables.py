"""Scores of problems of one's own beside their losses."""

from __future__ import annotations

from collections.abc import Mapping

from ..kit.grid import Grid, difference_cells
from ..kit.results import Results
from ..kit.statistics import paired_difference

LOSSES = ("valid_loss", "test_loss")  # which stand in the first table


def score_tables(results: Results) -> Mapping[str, Grid]:
    """A table for each further score of the test split; nothing without any."""
    names = [*results.arms[0].runs[0]["metrics"]]
    own = [name for name in names if name.startswith("test_") and name not in LOSSES]
    runs = [run for arm in results.arms for run in arm.runs]
    shared = [name for name in own if all(name in run["metrics"] for run in runs)]
    return {name.removeprefix("test_"): _table(results, name) for name in shared}


def _table(results: Results, metric: str) -> Grid:
    by_name = {arm.name: arm for arm in results.arms}
    rows = []
    for arm in results.arms:
        difference = None
        if arm.control is not None:
            control = by_name[arm.control]
            difference = paired_difference(arm.losses(metric), control.losses(metric))
        cells = difference_cells(arm.control, difference)
        valid = arm.mean(metric.replace("test_", "valid_", 1))
        rows.append([arm.name, f"{arm.mean(metric):.4f}", f"{valid:.4f}", *cells])
    name = metric.removeprefix("test_")
    return Grid(
        (
            "arm",
            f"test {name}",
            f"valid {name}",
            "control",
            "difference",
            "verdict",
            "smallest detectable",
        ),
        rows,
        f"{name} as the problem measures it, mean over batches; differences as above.",
    )
