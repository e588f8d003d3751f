"""A comparison in one file: a zip of what its runs left, but for weights, pages and sound."""

from __future__ import annotations

import io
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ...errors import UserError
from ...files import write_atomically
from .folder import COMPARISON, CONFIG, COSTS, DONE, LEARNED, METRICS, SWEEP, SWEPT
from .results import gather, run_name

ARRAYS = ".npz"  # how files of arrays end, whatever domain wrote them
KEPT = (COMPARISON, COSTS, SWEEP, CONFIG, METRICS, LEARNED, DONE)
MOST_FILES, MOST_BYTES = 20_000, 1 << 30  # of an archive, unpacked
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every member, so that the same runs make the same bytes


def pack(directory: Path, file: Path, *, overwrite: bool = False) -> tuple[int, list[str]]:
    """Write the comparison in ``directory`` into the zip ``file``.

    Members are configurations, metrics, final numbers and arrays of its runs and of its sweep, as
    the runs wrote them, in order of their names; the same runs make the same bytes.

    Returns how many members there are, and which files of these runs were left out.
    Raises ``UserError`` for a folder without a finished comparison, and for a file that exists.
    """
    if file.suffix != ".zip":
        raise UserError(f"an archive's name ends in .zip; {file} does not")
    if file.exists() and not overwrite:
        raise UserError(f"{file} exists; choose another name, or pass --overwrite")
    runs = {run_name(run) for arm in gather(directory).arms for run in arm.runs}
    kept, left = [], []
    for path in sorted(directory.rglob("*")):
        parts = path.relative_to(directory).parts
        if not path.is_file() or any(part.startswith(".") for part in parts):
            continue
        wanted = path.name in KEPT or path.suffix == ARRAYS
        ours = len(parts) == 1 or (parts[0] in runs and len(parts) == 2)
        swept = parts[0] == SWEPT and len(parts) == 3
        (kept if wanted and (ours or swept) else left).append(path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compresslevel=9) as archive:
        for path in kept:
            member = zipfile.ZipInfo(path.relative_to(directory).as_posix(), EPOCH)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, path.read_bytes())
        _check(file, archive.infolist())
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue(), "archive")
    return len(kept), [path.relative_to(directory).as_posix() for path in left]


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Open a comparison: its folder, or one for a while that holds what is in its archive.

    Raises ``UserError`` for a file that is no archive of a comparison, or a damaged one.
    """
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / path.stem
        unpack(path, directory)
        yield directory


def beside(path: Path) -> Path:
    """The folder for pages of a comparison: its own, or that of its archive's name."""
    return path.with_suffix("") if path.is_file() else path


def keep_new(directory: Path, path: Path) -> None:
    """Copy what was written into ``directory``, which ``opened`` gave, ``beside`` its archive."""
    target = beside(path)
    if target == path:
        return
    with zipfile.ZipFile(path) as archive:
        packed = set(archive.namelist())
    for file in directory.rglob("*"):
        name = file.relative_to(directory)
        if file.is_file() and name.as_posix() not in packed:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target / name, file.read_bytes(), "kept")


def unpack(file: Path, directory: Path) -> None:
    """Write the members of an archive into ``directory``.

    Raises ``UserError`` for a file that is damaged, no archive of a comparison, or holds a member
    that ``pack`` would not have written.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check(file, members)
            for member in members:
                target = directory / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{file} is damaged, or no archive of `resonant pack` ({error}); fetch it again, or "
            "give the folder of a comparison"
        ) from error


def _check(file: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse members that ``pack`` would not have written."""
    if COMPARISON not in [member.filename for member in members]:
        raise UserError(f"{file} holds no {COMPARISON}; give an archive that `resonant pack` wrote")
    size = sum(member.file_size for member in members)
    if len(members) > MOST_FILES or size > MOST_BYTES:
        raise UserError(
            f"{file} holds {len(members):,} files of {size / 1e6:,.0f} MB; an archive of a "
            f"comparison has at most {MOST_FILES:,} and {MOST_BYTES / 1e6:,.0f} MB"
        )
    for member in members:
        path = PurePosixPath(member.filename)
        usual = all(re.fullmatch(r"[\w@=+-][\w@=+.-]*", part) for part in path.parts)
        known = path.name in KEPT or path.suffix == ARRAYS
        whole = member.compress_type == zipfile.ZIP_DEFLATED and not member.flag_bits & 0x1
        if not (usual and known and whole and len(path.parts) <= 3):
            raise UserError(
                f"{file}: no archive of a comparison holds {member.filename!r}; names are of "
                f"letters, digits and @=+.-, of {', '.join(KEPT)} or arrays ({ARRAYS})"
            )
