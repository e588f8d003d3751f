"""The folders of runs and comparisons: what their files are called.

Readable without torch and numpy. Files of one domain alone are named in its slice, those of every
model in ``resonant.files``; what each must hold says ``contents``.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError

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
OWN = "arms.json"  # of functions of one's own
COSTS = "probe.json"
SWEEP = "sweep.json"
SWEPT = "sweep"  # the folder of its runs
REPORT = "report.html"
# Of both.
LOCK = ".lock"


def require(directory: Path, name: str, move: str) -> None:
    """Raise ``UserError``, which ends with the next ``move``, where a folder lacks a file."""
    if not (directory / name).is_file():
        raise UserError(f"{directory} holds no {name}; {move}")
