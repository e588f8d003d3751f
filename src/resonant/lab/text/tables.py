"""Tables of text: what arms that see the future lose without it."""

from __future__ import annotations

from ..kit.grid import Grid, difference_cells
from ..kit.results import Results
from ..kit.statistics import paired_difference


def without_future(results: Results) -> Grid | None:
    """What arms that see the future lose without it, or None if none does."""
    metric = "test_loss_without_future"
    leaking = [arm for arm in results.arms if all(metric in run["metrics"] for run in arm.runs)]
    if not leaking:
        return None
    rows = []
    for arm in leaking:
        lost = paired_difference(arm.losses(metric), arm.losses("test_loss"))
        _, *cells = difference_cells(arm.name, lost)
        rows.append([arm.name, f"{arm.mean('test_loss'):.4f}", f"{arm.mean(metric):.4f}", *cells])
    return Grid(
        (
            "arm",
            "test loss",
            "without the future",
            "difference",
            "verdict",
            "smallest detectable",
        ),
        rows,
        f"Arms that see the future, in {results.unit}: without it, each token of the test split is "
        "predicted from those before it, read anew with no other there.",
    )
