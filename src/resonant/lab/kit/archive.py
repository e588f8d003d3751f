"""A comparison in one file: a zip of one line a run, and of the arrays behind its pictures."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...errors import UserError
from ...files import strict_json, write_atomically
from .contents import HELD, check_held, read_arrays, read_held, write_arrays
from .folder import (
    COMPARISON,
    CONFIG,
    COSTS,
    DONE,
    LEARNED,
    METRICS,
    SWEEP,
    SWEPT,
)
from .metrics import read_metrics
from .results import gather, run_name

LINES = "runs.jsonl"  # of an archive; its other members are arrays, as numpy.load names them
ARRAYS = ".npz"  # how files of arrays end, whatever domain wrote them
MOST_FILES, MOST_BYTES = 20_000, 1 << 30  # of an archive, unpacked
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member, so that the same runs make the same bytes
PART = re.compile(r"[\w@=+-][\w@=+.-]*")  # of a path in an archive


def pack(directory: Path, file: Path, *, overwrite: bool = False) -> tuple[int, list[str]]:
    """Write the comparison in ``directory`` into the zip ``file``.

    ``runs.jsonl`` in it has a line for the comparison (its description, costs, sweep) and one for
    each run, those of the sweep too: "run" is its folder, "config", "done" what those files say,
    "metrics" and "learned" columns by name. Arrays are members RUN/FILE/NAME.npy, so that
    ``numpy.load`` reads them. The same runs make the same bytes.

    Returns how many runs there are, and which files of the folder were left out.
    Raises ``UserError`` for a folder without a finished comparison, and for a file that exists.
    """
    if file.suffix != ".zip":
        raise UserError(f"an archive's name ends in .zip; {file} does not")
    if file.exists() and not overwrite:
        raise UserError(f"{file} exists; choose another name, or pass --overwrite")
    runs = [run_name(run) for arm in gather(directory).arms for run in arm.runs]
    swept = sorted(f"{SWEPT}/{path.name}" for path in (directory / SWEPT).glob("*/"))
    lines: list[dict[str, Any]] = [_read(directory, OF_COMPARISON)]
    lines += [{"run": run, **_read(directory / run, OF_RUN)} for run in [*sorted(runs), *swept]]
    kept = {directory / name for name in OF_COMPARISON.values()}
    members = {LINES: "".join(json.dumps(line) + "\n" for line in lines).encode()}
    for run in (line["run"] for line in lines[1:]):
        kept |= {directory / run / name for name in OF_RUN.values()}
        for path in sorted((directory / run).glob(f"*{ARRAYS}")):
            kept.add(path)
            for name, array in (read_arrays(path) or {}).items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, array, allow_pickle=False)
                members[f"{run}/{path.stem}/{name}.npy"] = buffer.getvalue()
    for name in members:
        _check_name(file, name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compresslevel=9) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, content)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue(), "archive")
    found = {path for path in directory.rglob("*") if path.is_file()}
    left = sorted(path.relative_to(directory) for path in found - kept)
    hidden = [path for path in left if any(part.startswith(".") for part in path.parts)]
    return len(lines) - 1, [path.as_posix() for path in left if path not in hidden]


def unpack(file: Path, directory: Path) -> None:
    """Write what an archive holds into ``directory``, as the runs had written it.

    Raises ``UserError`` for a file that is damaged, no archive of a comparison, or holds a member
    that ``pack`` would not have written.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check(file, archive.infolist())
            lines = [strict_json(line.decode()) for line in archive.read(LINES).splitlines()]
            _check_runs(file, lines, archive.namelist())
            arrays: dict[Path, dict[str, np.ndarray]] = {}
            for name in archive.namelist():
                if name != LINES:
                    *run, stem, key = name.removesuffix(".npy").split("/")
                    read = np.lib.format.read_array(io.BytesIO(archive.read(name)))
                    arrays.setdefault(directory.joinpath(*run, stem + ARRAYS), {})[key] = read
        for line in lines:
            folder = directory / line.get("run", "")
            if "run" in line:  # every part, an empty first one too: that would be the root
                _check_name(file, f"{line['run']}/of/it.npy")
            folder.mkdir(parents=True, exist_ok=True)
            for part, name in (OF_RUN if "run" in line else OF_COMPARISON).items():
                if part in line:
                    if name in HELD:
                        check_held(file / line.get("run", "") / name, line[part], HELD[name])
                    (folder / name).write_text(WRITE[Path(name).suffix](line[part]))
        for path, each in arrays.items():
            write_arrays(path, each)
    except (*DAMAGE, OSError) as error:
        raise UserError(
            f"{file} is damaged, or no archive of `resonant pack` ({error}); fetch it again, or "
            "give the folder of a comparison"
        ) from error


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Open a comparison: its folder, or one for a while that holds what is in its archive.

    Raises ``UserError`` for a path that is not there, and for a file that is damaged or no archive
    of a comparison. Errors inside the block name ``path``, not the folder that goes.
    """
    if not path.exists():
        raise UserError(f"there is no {path}; give a comparison's folder or its archive")
    if not path.is_file():
        yield path
        return
    if path.suffix != ".zip":
        raise UserError(f"an archive's name ends in .zip; {path} does not: rename it")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / path.stem
        try:
            unpack(path, directory)
            yield directory
        except UserError as error:
            raise UserError(str(error).replace(str(directory), str(path))) from error


def beside(path: Path) -> Path:
    """Name the folder for pages of a comparison: its own, or that of its archive's name."""
    return path.with_suffix("") if path.is_file() else path


def refuse_other(directory: Path, path: Path) -> None:
    """Raise ``UserError`` if the folder ``beside`` the archive ``path`` holds another comparison.

    So it is if a file of that name is in the way. ``directory`` holds what is in the archive.
    """
    if path.is_file() and beside(path).exists() and not beside(path).is_dir():
        raise UserError(
            f"{path} would write its page into a folder {beside(path)}, which is a file; rename "
            "the archive"
        )
    theirs = beside(path) / COMPARISON
    if theirs.is_file() and read_held(theirs) != read_held(directory / COMPARISON):
        raise UserError(
            f"{path} would write its page into {beside(path)}, which holds another comparison; "
            "rename the archive"
        )


def keep_new(directory: Path, path: Path, before: set[Path]) -> None:
    """Copy what was written into ``directory`` since it held ``before``, ``beside`` ``path``."""
    target = beside(path)
    if target == path:
        return
    for file in set(directory.rglob("*")) - before:
        name = file.relative_to(directory)
        if file.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target / name, file.read_bytes(), "kept")


def _read_columns(path: Path) -> dict[str, Any]:
    rows = read_metrics(path, columns=None)
    names = next(csv.reader(path.read_text().splitlines()), [])  # there may be no row
    return {name: [_whole(name, row[name]) for row in rows] for name in names}


def _whole(name: str, value: float) -> float | int:
    return int(value) if name == "step" else value


def _columns_text(columns: dict[str, Any]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([repr(value) for value in row] for row in zip(*columns.values(), strict=True))
    return buffer.getvalue()


# By the name in a line, the file.
OF_COMPARISON = {"comparison": COMPARISON, "costs": COSTS, "sweep": SWEEP}
OF_RUN = {"config": CONFIG, "metrics": METRICS, "learned": LEARNED, "done": DONE}
READ: dict[str, Callable[[Path], Any]] = {
    ".yaml": read_held,
    ".csv": _read_columns,
    ".json": read_held,
}
WRITE: dict[str, Callable[[Any], str]] = {
    ".yaml": lambda values: yaml.safe_dump(values, sort_keys=False),
    ".csv": _columns_text,
    ".json": lambda values: json.dumps(values, indent=2),
}
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    MemoryError,
    OverflowError,
)


def _read(directory: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """What the files of a folder say, of those that are there."""
    files = {part: directory / name for part, name in names.items()}
    return {part: READ[path.suffix](path) for part, path in files.items() if path.is_file()}


def _check(file: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse members that ``pack`` would not have written."""
    if LINES not in [member.filename for member in members]:
        raise UserError(f"{file} holds no {LINES}; give an archive that `resonant pack` wrote")
    size = sum(member.file_size for member in members)
    if len(members) > MOST_FILES or size > MOST_BYTES:
        raise UserError(
            f"{file} holds {len(members):,} files of {size / 1e6:,.0f} MB; an archive of a "
            f"comparison has at most {MOST_FILES:,} and {MOST_BYTES / 1e6:,.0f} MB"
        )
    for member in members:
        whole = member.compress_type == zipfile.ZIP_DEFLATED and not member.flag_bits & 0x1
        _check_name(file, member.filename if whole else f"{member.filename}?")


def _check_runs(file: Path, lines: list[dict[str, Any]], members: list[str]) -> None:
    """Refuse lines and arrays of which ``pack`` would not have written both, and once."""
    runs = [line["run"] for line in lines if "run" in line]
    twice = [name for name, count in Counter([*runs, *members]).items() if count > 1]
    if twice:
        raise UserError(f"{file} holds {twice[0]} twice; fetch it again, or pack it again")
    for name in members:
        if name != LINES and "/".join(name.split("/")[:-2]) not in runs:
            raise UserError(
                f"{file} holds {name}, which is of none of its runs; fetch it again, or pack it "
                "again"
            )


def _check_name(file: Path, name: str) -> None:
    """Refuse a path that leads elsewhere, or to a file that is none of an archive."""
    parts = name.split("/")
    usual = len(parts) <= 4 and all(PART.fullmatch(part) for part in parts)
    if not usual or (len(parts) > 1 and not name.endswith(".npy")):
        raise UserError(
            f"{file}: no archive of a comparison holds {name!r}; names are of letters, digits and "
            f"@=+.-, and files are {LINES} or arrays"
        )
