"""What is read of a user's folder of images once: hashes of files, and pixels of one size."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ...files import kept_content, sealed, write_atomically
from ..kit.progress import progress
from .config import ImagesConfig
from .files import pooled, read_image

LAYOUT = 1  # raise it when the file, or what is made of an image, looks otherwise
MANY = 1000  # files whose reading is shown


def _cache(name: str) -> Path:
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("resonant")) / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def fingerprints(root: Path, paths: Sequence[Path]) -> dict[Path, str]:
    """Hash the content of each file under ``root``.

    Hashes are kept in the cache folder, by what the file system says of a file: size, times of
    content and of attributes, number. So a file is read again when it was written, whatever its
    time of content says.
    """
    import filelock

    kept = _cache(f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]}.json")
    with filelock.FileLock(kept.with_suffix(".lock")):
        known: dict[str, list[Any]] = json.loads(kept_content(kept) or b"{}")
        stats = {path: _stat(path) for path in paths}
        names = {path: path.relative_to(root).as_posix() for path in paths}
        new = [path for path in paths if known.get(names[path], [None])[0] != stats[path]]
        if not new:
            return {path: known[names[path]][1] for path in paths}
        with ThreadPoolExecutor(os.cpu_count()) as pool, progress("reading files (once)") as part:
            report = part("files", len(new)) if len(new) > MANY else lambda done: None
            for done, (path, mark) in enumerate(zip(new, pool.map(_digest, new), strict=True), 1):
                known[names[path]] = [stats[path], mark]
                report(done)
        write_atomically(kept, sealed(json.dumps(known).encode()), "image-marks")
        return {path: known[names[path]][1] for path in paths}


def _stat(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_images(paths: Sequence[Path], marks: dict[Path, str], config: ImagesConfig) -> np.ndarray:
    """Read images (n, channel, row, column) of the configured size, from the cache if possible.

    The cache knows them by the hashes of their files. Raises ``UserError`` for an image that cannot
    be read.
    """
    import filelock

    made = [LAYOUT, config.side, config.pool, config.channels, [marks[path] for path in paths]]
    kept = _cache(f"{hashlib.sha256(json.dumps(made).encode()).hexdigest()[:24]}.npy")
    with filelock.FileLock(kept.with_suffix(".lock")):
        content = kept_content(kept)
        if content is not None:
            return np.load(io.BytesIO(content))
        found = _read(paths, config)  # not read yet, or damaged since
        buffer = io.BytesIO()
        np.save(buffer, found)
        write_atomically(kept, sealed(buffer.getvalue()), "images")
        return found


def _read(paths: Sequence[Path], config: ImagesConfig) -> np.ndarray:
    side = config.side * config.pool
    found = np.empty((len(paths), config.channels, config.side, config.side), dtype=np.uint8)

    def take(index: int) -> None:
        found[index] = pooled(read_image(paths[index], side, config.channels)[None], config.pool)[0]

    with (
        progress("reading images (once; then kept)") as part,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        report = part("images", len(paths))
        for done, _ in enumerate(pool.map(take, range(len(paths))), start=1):
            report(done)
    return found
