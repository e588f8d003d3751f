"""The folders of runs and comparisons: what their files are called, and what a run says of itself.

Readable without torch and numpy. Files of one domain alone are named in its slice, those of every
model in ``resonant.files``.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ...errors import UserError
from ...files import damaged, write_atomically
from .config import import_plugins

if TYPE_CHECKING:
    import numpy as np

# Of a run.
CONFIG = "config.yaml"
METRICS = "metrics.csv"
LEARNED = "learned.csv"
CHECKPOINT = "last.ckpt"
DIAGNOSIS = "diagnosis.npz"
DONE = "done.json"
DIAGNOSIS_PAGE = "diagnosis.html"
# Of a comparison.
COMPARISON = "comparison.json"
COSTS = "probe.json"
SWEEP = "sweep.json"
SWEPT = "sweep"  # the folder of its runs
REPORT = "report.html"
# Of both.
LOCK = ".lock"


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of the run in ``directory``, as plain values.

    Raises ``UserError`` for a file that is missing or damaged.
    """
    require(directory, CONFIG, "give a whole folder, as `resonant compare` left it")
    path = directory / CONFIG
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise damaged(path) from error
    if not isinstance(values, dict):
        raise damaged(path)
    return values


def described_run(directory: Path) -> dict[str, Any]:
    """The run's own configuration where it lies beside the model; else nothing."""
    path = directory / CONFIG
    return read_config(directory) if path.is_file() and path.stat().st_size else {}


def import_plugins_of(directory: Path | None, given: str | None) -> None:
    """Import the modules that the run in ``directory`` names, and those ``given`` by comma.

    Raises ``UserError`` for one that cannot be imported.
    """
    own = () if directory is None else described_run(directory).get("plugins") or ()
    import_plugins((*own, *(given.split(",") if given else ())))


def require(directory: Path, name: str, move: str) -> None:
    """Raise ``UserError``, which ends with the next ``move``, where a folder lacks a file."""
    if not (directory / name).is_file():
        raise UserError(f"{directory} holds no {name}; {move}")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name, compressed, so that ``read_arrays`` reads them."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue(), path.stem)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Arrays by name, or None where there is no such file.

    Raises ``UserError`` for a damaged file.
    """
    import numpy as np

    if not path.is_file():
        return None
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(path) from error
