"""Files that are fetched once, checked by the hash of their content, or taken from a folder."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import write_atomically


@dataclass(frozen=True)
class Remote:
    """A public file: where it is, what it is called, and the SHA-256 of its unpacked content.

    With ``member`` it is the first ``length`` bytes of that file in the ZIP archive at ``url``;
    with ``packed`` the file is taken, and hashed, as it is.
    """

    name: str
    file: str
    url: str
    sha256: str
    member: str | None = None
    length: int | None = None
    packed: bool = False


def fetch(remote: Remote, data_dir: Path | None) -> bytes:
    """The content of ``remote``: from ``data_dir``, from the cache, or downloaded.

    Raises ``UserError`` when the folder lacks it, its hash is another, or there is no network.
    """
    if data_dir is not None:
        return from_folder(remote, data_dir)
    import platformdirs

    cached = Path(platformdirs.user_cache_dir("resonant")) / remote.name / remote.file
    if not cached.is_file():
        if remote.member is None:
            _download(remote, cached, sha256=remote.sha256)
        else:
            _download_member(remote, cached)
    return _checked(remote, cached)


def from_folder(remote: Remote, data_dir: Path) -> bytes:
    """The content of ``remote`` from ``data_dir`` or a folder in it.

    Raises ``UserError`` when the folder lacks it or its hash is another.
    """
    named = [data_dir / remote.file, data_dir / remote.name / remote.file]
    for candidate in [*named, *sorted(data_dir.glob(f"*/{remote.file}"))]:
        if candidate.is_file():
            return _checked(remote, candidate)
    raise UserError(
        f"{data_dir} does not hold {remote.name}: neither {remote.file} nor "
        f"{remote.name}/{remote.file} is there. Put the file there"
        + (f", or leave --data-dir out to download it from {remote.url}" if remote.url else "")
    )


def _checked(remote: Remote, path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".gz" and not remote.packed:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} is damaged ({error}); fetch it again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != remote.sha256:
        raise UserError(
            f"{path} is not {remote.name}: its SHA-256 is {found[:16]}..., not "
            f"{remote.sha256[:16]}.... Delete the file and fetch it again, or give data of your "
            "own their own name (--data.name file or recordings)"
        )
    return content


def _download_member(remote: Remote, target: Path) -> None:
    """Download the archive, keep what is wanted of it, packed, and drop the rest."""
    assert remote.member is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        archive = Path(folder) / "archive.zip"
        _download(remote, archive, sha256=None)
        try:
            with zipfile.ZipFile(archive) as opened, opened.open(remote.member) as member:
                content = member.read(-1 if remote.length is None else remote.length)
        except (zipfile.BadZipFile, zlib.error, KeyError) as error:
            raise UserError(
                f"what {remote.url} serves holds no {remote.member} ({error}). Put {remote.file} "
                "into a folder and pass --data-dir FOLDER"
            ) from error
    if hashlib.sha256(content).hexdigest() != remote.sha256:
        raise _wrong(remote)
    write_atomically(target, gzip.compress(content, mtime=0), "download")


def _download(remote: Remote, target: Path, *, sha256: str | None) -> None:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # it advises on its own arguments

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # pooch writes to a temporary file and moves it only once the hash is right.
        pooch.retrieve(
            remote.url,
            known_hash=sha256,
            fname=target.name,
            path=target.parent,
            downloader=_downloader(),
        )
    except (requests.exceptions.RequestException, OSError) as error:
        raise UserError(
            f"could not download {remote.name} from {remote.url} ({type(error).__name__}). Check "
            f"the network, or put {remote.file} into a folder and pass --data-dir FOLDER"
        ) from error
    except ValueError as error:
        raise _wrong(remote) from error


def _wrong(remote: Remote) -> UserError:
    return UserError(
        f"what {remote.url} serves is not {remote.name}: its SHA-256 is not "
        f"{remote.sha256[:16]}.... Put the right {remote.file} into a folder and pass "
        "--data-dir FOLDER"
    )


def _downloader() -> Any:
    """pooch's HTTP downloader with our bar; its annotations know only its own."""
    import pooch

    bar: Any = _ProgressBar()
    return pooch.HTTPDownloader(progressbar=bar, timeout=30)


class _ProgressBar:
    """What pooch asks of a progress bar, drawn by rich."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        self._progress = Progress(TextColumn("downloading"), BarColumn(), DownloadColumn())
        self._task = self._progress.add_task("download", total=None)
        self.total: int | None = None

    def update(self, amount: int) -> None:
        if not self._progress.live.is_started:
            self._progress.start()
        self._progress.update(self._task, total=self.total, advance=amount)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()
