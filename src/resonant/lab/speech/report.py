"""What reports show of speech: what they show of alignments, and what is heard."""

from __future__ import annotations

from pathlib import Path

from ..alignment.report import LOOKS, TABLES, TEMPI
from ..kit.domain import Figure, Section
from ..kit.results import Results
from .figures import spectrograms
from .players import players_html
from .tables import speech_tables


def _spectrograms(results: Results, directory: Path) -> list[Figure]:
    return [
        Figure(
            "spectrograms",
            spectrograms(results, directory),
            "One test utterance, seed 0: frames as spoken, then as each arm made them, low "
            "frequencies at the bottom. Red, from above: where phonemes truly end; white, from "
            "below: where the arm's frames stop pointing at them. A recording is shown as it is.",
        )
    ]


SECTIONS = (
    TEMPI,
    Section("Boundaries over spectrograms", figures=_spectrograms),
    Section("Sound", html=players_html),
    TABLES,
    Section("Speech in numbers", tables=speech_tables),
    LOOKS,
)
