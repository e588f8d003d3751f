"""What reports show of text."""

from __future__ import annotations

from pathlib import Path

from ..kit.domain import Figure, Section
from ..kit.grid import alone
from ..kit.results import Results
from .figures import gap_curves, position_curves
from .tables import without_future

RELATIVE = (
    "Test loss by position, minus that of the first arm, in blocks that grow: mean over seeds; the "
    "band runs from the least to the greatest seed. Below the line is better."
)


GAPS = (
    "Validation loss by step, minus that of the first arm with the same seed: mean over seeds; the "
    "band runs from the least to the greatest. Below the line is better."
)


def _gaps(results: Results, directory: Path) -> list[Figure]:
    return [Figure("gaps", gap_curves(results), GAPS)]


def _positions(results: Results, directory: Path) -> list[Figure]:
    caption = RELATIVE
    if results.floor is not None:
        caption = (
            "Test loss by position: mean over seeds; the band runs from the least to the greatest "
            f"seed. Dotted: {results.floor:.3f}, the least that a model can reach which does not "
            "see the future."
        )
    return [Figure("positions", position_curves(results), caption)]


SECTIONS = (
    Section(
        "Arms that see the future",
        tables=lambda results: alone(without_future(results)),
        first=True,
    ),
    Section("How far apart, step by step", figures=_gaps),
    Section("Where in the sequence", figures=_positions),
)
