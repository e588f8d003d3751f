"""Files of images: IDX, CIFAR-10's binary archive, folders. Nothing here unpickles."""

from __future__ import annotations

import io
import math
import tarfile
import warnings
from pathlib import Path

import numpy as np

from ...errors import UserError

MOST_AXES = 4  # of an IDX file
RECORD = 1 + 3 * 32 * 32  # of CIFAR-10: a label and three planes
SUFFIXES = (".jpeg", ".jpg", ".png")


def read_idx(content: bytes, name: str) -> np.ndarray:
    """The array of an IDX file of unsigned bytes.

    A header of big-endian integers: two zero bytes, the type (8: unsigned byte), the number of
    axes, the length of each. Raises ``UserError`` for another file and for one cut short.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise UserError(
            f"{name} is no IDX file of bytes (it begins with {content[:4].hex() or 'nothing'}, not "
            "000008); fetch it again"
        )
    axes = content[3]
    start = 4 + 4 * axes
    if not 1 <= axes <= MOST_AXES:
        raise UserError(
            f"{name} says it has {axes} axes, but pictures and labels have 1 to {MOST_AXES}; fetch "
            "it again"
        )
    if len(content) < start:
        raise UserError(f"{name} is cut short in its header of {start} bytes; fetch it again")
    shape = tuple(np.frombuffer(content, ">u4", axes, 4).tolist())
    size = math.prod(shape)
    if len(content) - start != size:
        raise UserError(
            f"{name} says it holds {' x '.join(map(str, shape))} = {size} bytes, but "
            f"{len(content) - start} follow its header; fetch it again"
        )
    return np.frombuffer(content, np.uint8, size, start).reshape(shape)


def read_cifar(content: bytes, members: tuple[str, ...], name: str) -> tuple[np.ndarray, ...]:
    """Images (n, 3, 32, 32) and labels (n) of ``members`` of a CIFAR-10 archive, binary version.

    Raises ``UserError`` for what is no archive, a missing member, or one that is not whole records;
    whether bytes in it are right, its hash alone tells.
    """
    parts = []
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in members:
                file = archive.extractfile(f"cifar-10-batches-bin/{member}")
                assert file is not None
                parts.append(_records(file.read(), f"{member} of {name}"))
    except (tarfile.TarError, EOFError, OSError, KeyError, AssertionError) as error:
        raise UserError(
            f"{name} is no archive of CIFAR-10's binary version ({error}); fetch it again"
        ) from error
    records = np.concatenate(parts)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def _records(content: bytes, name: str) -> np.ndarray:
    if not content or len(content) % RECORD:
        raise UserError(
            f"{name} has {len(content)} bytes, which are not whole records of {RECORD}; fetch the "
            "archive again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    if int(records[:, 0].max()) > 9:
        raise UserError(f"{name} holds the label {records[:, 0].max()}; CIFAR-10 has 0 to 9")
    return records


def find_images(folder: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """Names of classes, and each image with its class, of ``folder``/CLASS/PICTURE.

    Raises ``UserError`` for a folder without any, or a class without any.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}; imagenet wants train/CLASS/PICTURE and val/CLASS/PICTURE"
        )
    named = (path.name for path in folder.iterdir() if path.is_dir())
    classes = sorted(name for name in named if not name.startswith("."))
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise UserError(
            f"{folder} holds no pictures ({', '.join(SUFFIXES)}) in folders named after classes"
        )
    empty = set(range(len(classes))) - {label for _, label in found}
    if empty:
        raise UserError(
            f"{folder / classes[min(empty)]} holds no pictures ({', '.join(SUFFIXES)}); fill it, "
            "or remove the folder"
        )
    return classes, found


def read_image(path: Path, side: int) -> np.ndarray:
    """An image (3, side, side): the shorter side scaled to ``side``, the middle cut out.

    Raises ``UserError`` for a file that is no image, cannot be read to its end, or has more than
    8 bits a channel.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore")  # odd metadata and great size are no damage
            deep = opened.mode if opened.mode.startswith(("I", "F")) else None
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} cannot be read as a picture ({error}); delete it or fetch it again"
        ) from error
    if deep is not None:
        raise UserError(
            f"{path} has more than 8 bits a channel (mode {deep}), which would be cut off; convert "
            "it to 8"
        )
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    return np.asarray(cut, dtype=np.uint8).transpose(2, 0, 1)
