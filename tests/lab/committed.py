"""The committed comparisons, read from their archives once."""

import atexit
import functools
import tempfile
from pathlib import Path

from resonant.lab.kit.archive import unpack
from resonant.lab.kit.results import Results, gather

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@functools.cache
def _place() -> Path:
    place = tempfile.TemporaryDirectory()
    atexit.register(place.cleanup)
    return Path(place.name)


@functools.cache
def folder_of(name: str) -> Path:
    """The folder of the comparison ``name`` as it was packed."""
    unpack(RESULTS / f"{name}.zip", _place() / name)
    return _place() / name


@functools.cache
def results_of(name: str) -> Results:
    """What that comparison's runs left."""
    return gather(folder_of(name))
