"""What models say, as WAV files and as players in the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np

from ...errors import UserError
from ...files import write_atomically
from ..alignment.conditions import ALIGNMENT, REAL
from ..alignment.figures import condition_title, shown_conditions
from ..alignment.tables import frame_ms
from ..kit.results import Results, first_folder
from .espeak import SAMPLE_RATE
from .figures import spoken_pictures
from .mel import sound, wav_bytes
from .tables import spoken

TRUE = "as spoken"


@dataclass(frozen=True)
class Players:
    """Data URIs of WAV files, a row an arm (the true frames first), a column a condition.

    ``phonemes`` are what is said; ``missing`` says why there are no rows.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    phonemes: str
    missing: str | None = None


def players(results: Results, directory: Path) -> Players | None:
    """Sounds of the first seed of each arm, by Griffin and Lim; None where nothing speaks.

    Written into ``sound`` within the folder, and read from there until a run is newer.
    """
    pictures = spoken_pictures(results, directory)
    arms = [arm for arm in spoken(results) if arm.name in pictures]
    length = frame_ms(arms) if arms else None
    if length is None:
        return None
    hop = round(length * SAMPLE_RATE / 1000)
    shown = [name for name in shown_conditions(pictures) if name != REAL]
    columns = tuple(condition_title(name) for name in shown)
    phonemes = " ".join(pictures[arms[0].name]["phonemes@1"])
    speakers = [(TRUE, arms[0], "true"), *((arm.name, arm, "made") for arm in arms)]
    rows = []
    try:
        for name, arm, kind in speakers:
            source, kept = first_folder(arm, directory) / ALIGNMENT, pictures[arm.name]
            stem = name.replace(" ", "-")
            row = tuple(
                _uri(
                    directory / "sound" / f"{stem}@{condition}.wav",
                    source,
                    kept[f"{kind}@{condition}"],
                    hop,
                )
                for condition in shown
            )
            rows.append((name, row))
    except UserError as error:
        return Players(columns, (), phonemes, missing=str(error))
    return Players(columns, tuple(rows), phonemes)


def players_html(results: Results, directory: Path) -> str:
    """``players`` as a table of the page; empty where nothing speaks."""
    made = players(results, directory)
    if made is None:
        return ""
    template = resources.files("resonant.lab.speech").joinpath("players.html").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(made=made)


def _uri(path: Path, source: Path, mel: np.ndarray, hop: int) -> str:
    """The file, made from ``mel`` where it is older than ``source``, as a data URI."""
    if not path.is_file() or path.stat().st_mtime < source.stat().st_mtime:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, wav_bytes(sound(mel, hop=hop)), "sound")
    return "data:audio/wav;base64," + base64.b64encode(path.read_bytes()).decode()
