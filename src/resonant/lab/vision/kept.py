"""Images of a user's folder, brought to one size once and kept in the cache folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...files import sealed, unsealed, write_atomically
from ..kit.progress import progress
from .config import ImagesConfig
from .files import pooled, read_image

LAYOUT = 1  # raise it when the file, or what is made of an image, looks otherwise


def read_folder(root: Path, paths: Sequence[Path], config: ImagesConfig) -> np.ndarray:
    """Read images (n, channel, row, column) of the configured size, from the cache if possible.

    The cache knows files by name, size and time. Raises ``UserError`` for an image that cannot be
    read.
    """
    import filelock
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("resonant")) / "images"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{_key(root, paths, config)[:24]}.npy"
    with filelock.FileLock(kept.with_suffix(".lock")):
        found = _kept(kept)
        if found is None:  # not read yet, or damaged since
            found = _read(paths, config)
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


def _kept(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        return np.load(io.BytesIO(unsealed(path)))
    except UserError:
        return None


def _key(root: Path, paths: Sequence[Path], config: ImagesConfig) -> str:
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in paths]
    files = [(name, found.st_size, found.st_mtime_ns) for name, found in stats]
    made = [LAYOUT, str(root.resolve()), config.size, config.pool, files]
    return hashlib.sha256(json.dumps(made).encode()).hexdigest()
