"""Files that are whole or not there, and faults injected to prove it."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path
from typing import Any

from .errors import UserError

# What a saved model is called, ours and transformers'.
WEIGHTS = "model.safetensors"
MODEL_CONFIG = "config.json"

# Where a run can be killed by RESONANT_FAULT=point (or point:n for its n-th passing). Each file
# written atomically adds "<label>-half" and "<label>-unreplaced".
FAULT_POINTS = (
    "run-started",
    "config-half",
    "step",
    "metrics-half",
    "metrics-written",
    "checkpoint-half",
    "checkpoint-unreplaced",
    "checkpoint-written",
    "model-written",
    "done-half",
    "done-written",
    "probe-half",
    "report-half",
    "sweep-half",
    "run-adopted",
    "alignment-half",
)
_passed: dict[str, int] = {}


def fault(point: str) -> None:
    """Kill this process, as a power cut would, if RESONANT_FAULT names this point."""
    wanted = os.environ.get("RESONANT_FAULT")
    if wanted is None:
        return
    name, _, count = wanted.partition(":")
    if name == point:
        _passed[point] = _passed.get(point, 0) + 1
        if _passed[point] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def write_atomically(path: Path, content: bytes, label: str) -> None:
    """Replace ``path`` by ``content``, or leave it as it was.

    A temporary file in the same folder, flushed to the disk, then renamed over the old one.
    Raises ``OSError``, naming ``path``, when the disk is full or refuses.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            half = len(content) // 2
            file.write(content[:half])
            file.flush()
            fault(f"{label}-half")
            file.write(content[half:])
            file.flush()
            os.fsync(file.fileno())
        fault(f"{label}-unreplaced")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def read_json(path: Path) -> Any:
    """The content of a JSON file; ``UserError`` if it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise damaged(path) from error


def damaged(path: Path) -> UserError:
    """What to tell a user whose file cannot be read back."""
    return UserError(
        f"{path} is damaged; delete it and run the same command again: what else is finished is "
        "kept"
    )


def disk_error(error: OSError) -> UserError:
    """What to tell a user whose disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        move = "free some space"
    else:
        move = "check that the path is right and may be written"
    if error.strerror is None:  # raised by ourselves, with a sentence of its own
        return UserError(str(error))
    where = f"{error.filename}: " if error.filename else ""
    return UserError(
        f"{where}{error.strerror}; {move}, then run the same command again: what is finished is "
        "kept"
    )
