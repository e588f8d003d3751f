"""Files that are whole or not there, and faults injected to prove it."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import re
import signal
import time
from collections.abc import Iterable
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
    "logged",
    "metrics-half",
    "metrics-written",
    "shards-written",
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
ABANDONED = 600.0  # seconds after which nobody is still writing a temporary file
_HOST = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "here"
_passed: dict[str, int] = {}


def fault(point: str) -> None:
    """Kill this process, as a power cut would, if RESONANT_FAULT names this point.

    So names POINT, POINT:N the N-th time, and POINT:N@RANK one of several processes of torchrun.
    """
    wanted = os.environ.get("RESONANT_FAULT")
    if wanted is None:
        return
    wanted, _, rank = wanted.partition("@")
    name, _, count = wanted.partition(":")
    if name == point and rank in ("", os.environ.get("RANK", "0")):
        _passed[point] = _passed.get(point, 0) + 1
        if _passed[point] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def write_atomically(path: Path, content: bytes, label: str) -> None:
    """Replace ``path`` by ``content``, or leave it as it was.

    A temporary file in the same folder, flushed to the disk, then renamed over the old one. It has
    this process in its name, so that two may write the same file; those of killed ones are removed.
    Raises ``OSError``, naming ``path``, when the disk is full or refuses.
    """
    temporary = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.partial")
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        with contextlib.suppress(FileNotFoundError):
            if _abandoned(left):
                left.unlink()
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


def _abandoned(temporary: Path) -> bool:
    """Say whether nobody writes a temporary file any more: its process is gone, or it is old."""
    host, _, process = temporary.name.removesuffix(".partial").rpartition(".")[2].rpartition("-")
    if host == _HOST and process.isdigit() and os.name == "posix":
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False
    return time.time() - temporary.stat().st_mtime > ABANDONED


def read_text(path: Path) -> str:
    """Read a file of UTF-8, with a byte order mark or without.

    Raises ``UserError`` for a file that is missing, or in another encoding.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; give a folder as the command left it")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise damaged(path, f"its byte {error.start} is not UTF-8") from error


def strict_json(text: str) -> Any:
    """Read JSON, in which no number is NaN or infinite.

    Raises ``ValueError`` for anything else.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"it holds the number {constant}")

    return json.loads(text, parse_constant=refuse)


def damaged(path: Path, why: str) -> UserError:
    """Say that a file cannot be read back, and what comes next."""
    return UserError(
        f"{path} is damaged ({why}); delete it and run the same command again: what else is "
        "finished is kept"
    )


SEAL = b"sha256:"  # before the checksum that ends a sealed file


def sealed(content: bytes) -> bytes:
    """Put a checksum behind the content, for ``unsealed``."""
    return content + SEAL + hashlib.sha256(content).digest()


def unsealed(path: Path) -> bytes:
    """Read a file that ``sealed`` made.

    Raises ``UserError`` for a file that is damaged, be it by one bit.
    """
    whole = path.read_bytes()
    size = len(whole) - len(SEAL) - hashlib.sha256().digest_size
    content = whole[: max(size, 0)]
    if size < 0 or sealed(content) != whole:
        raise damaged(path, "its checksum does not fit its content")
    return content


def kept_content(path: Path) -> bytes | None:
    """Read a sealed file of a cache; None where there is none, or a damaged one: make it anew."""
    try:
        return unsealed(path) if path.is_file() else None
    except UserError:
        return None


SUMS = "sums.json"  # in a folder that others wrote: the checksum of each file


def write_sums(folder: Path) -> None:
    """Write down the checksum of every file in ``folder``, for ``why_not_whole``."""
    sums = {path.relative_to(folder).as_posix(): digest_of([path]) for path in _inside(folder)}
    write_atomically(folder / SUMS, json.dumps(sums, indent=1).encode(), "sums")


def why_not_whole(folder: Path) -> str | None:
    """Say in a few words why a folder is not as ``write_sums`` left it; None if it is."""
    try:
        said = json.loads((folder / SUMS).read_text())
        for name, digest in said.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if digest_of([path]) != digest:
                return f"the checksum of {name} does not fit its content"
    except (OSError, ValueError, AttributeError) as error:
        return f"{SUMS} is missing or damaged ({type(error).__name__})"
    return None


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)


def digest_of(paths: Iterable[Path]) -> str:
    """Hash files, their names and contents, by SHA-256."""
    found = hashlib.sha256()
    for path in paths:
        found.update(f"{path.name}\n{path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    return found.hexdigest()


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
