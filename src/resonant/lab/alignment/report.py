"""What reports show of alignments."""

from __future__ import annotations

from pathlib import Path

from ..kit.domain import Figure, Section
from ..kit.results import Results
from .figures import clock_curves, listening_clock, matrices, tempo_curves
from .tables import alignment_tables


def _tempi(results: Results, directory: Path) -> list[Figure]:
    return [
        Figure(
            "tempi",
            tempo_curves(results),
            "Boundary error at tempi never trained on: mean over seeds; the band runs from the "
            "least to the greatest seed. Dotted: durations that can be known from the symbols, "
            "stretched to the true length.",
        )
    ]


def _looks(results: Results, directory: Path) -> list[Figure]:
    return [
        Figure(
            "matrices",
            matrices(results, directory),
            "One test utterance, seed 0: weights of each frame over symbols, dark 0 to bright 1. "
            "Frames between the two red stairs look at the true symbol.",
        ),
        Figure(
            "clocks",
            clock_curves(results, directory),
            "How clocks run, in the same utterance. Lines: the target's clock over frames. Dots: "
            "the source's clock at the end of each symbol, drawn at the frame where the symbol "
            "truly ends; dots on the line are boundaries in the right place.",
        ),
        Figure(
            "listening",
            listening_clock(results, directory),
            "How a clock corrects itself, in the same utterance: its place with two standard "
            "deviations, what each frame resembled, and the source's clock at the true ends of the "
            "symbols.",
        ),
    ]


TEMPI = Section("Alignment", figures=_tempi)
TABLES = Section("Alignment in numbers", tables=alignment_tables)
LOOKS = Section("Where frames look", figures=_looks)
SECTIONS = (TEMPI, TABLES, LOOKS)
