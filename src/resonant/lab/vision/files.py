"""Files of images: IDX, CIFAR-10's binary archive, PNG and JPEG. Nothing here unpickles."""

from __future__ import annotations

import io
import math
import tarfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError

MOST_AXES = 4  # of an IDX file
RECORD = 1 + 3 * 32 * 32  # of CIFAR-10: a label and three planes
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # what is in a file counts, not how it is called
RATIO = 20  # of the sides of an image
ORIENTATION = 0x0112  # the EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # its values that exchange rows and columns


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
                if file is None:
                    raise KeyError(f"{member} is no file")
                parts.append(_records(file.read(), f"{member} of {name}"))
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
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


def image_size(path: Path) -> tuple[int, int]:
    """Read the width and height of an image, upright, from its header.

    Raises ``UserError`` for a file that is no image, has more than 8 bits a channel, or is more
    than ``RATIO`` times as long as wide.
    """
    with _opened(path) as opened:
        turned = opened.getexif().get(ORIENTATION, 1) in SIDEWAYS
        return (opened.height, opened.width) if turned else opened.size


@cache
def _pillow() -> Any:
    """Import Pillow, which shall not warn: odd metadata and great size are no damage."""
    from PIL import Image

    # For good, and once: filters of a block are those of all threads.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an image of a known format; whatever is wrong with it is named."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    Image = _pillow()
    try:
        with Image.open(path, formats=FORMATS) as opened:
            deep = opened.mode if opened.mode.startswith(("I", "F")) else ""
            if opened.format == "PNG" and _depth_of_png(path) > 8:
                deep = f"16-bit {opened.mode}"
            if deep:
                raise UserError(
                    f"{path} has more than 8 bits a channel (mode {deep}), which would be cut off; "
                    "convert it to 8"
                )
            if max(opened.size) > RATIO * min(opened.size):
                raise UserError(
                    f"{path} is {opened.width} x {opened.height} pixels, more than {RATIO} times "
                    "as long as wide; cut it, or leave it out"
                )
            yield opened
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} cannot be read as an image ({error}); delete it, fetch it again, or convert "
            f"it to one of {', '.join(FORMATS)}"
        ) from error


def _depth_of_png(path: Path) -> int:
    """Read the bits a channel, at byte 24: Pillow reads 16 as 8 without a word."""
    with path.open("rb") as file:
        return file.read(25)[24]


def read_image(path: Path, side: int, channels: int = 3) -> np.ndarray:
    """Read the middle square of an image (channels, side, side), scaled from the shorter side.

    The image is turned upright as its EXIF says, and made colour or grey.

    Raises ``UserError`` as ``image_size`` does, and for a file that cannot be read to its end.
    """
    from PIL import ImageOps

    with _opened(path) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB" if channels == 3 else "L")
    scale = side / min(image.size)
    width, height = (max(side, round(length * scale)) for length in image.size)
    image = image.resize((width, height), _pillow().Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    return np.asarray(cut, dtype=np.uint8).reshape(side, side, channels).transpose(2, 0, 1)


def pooled(pixels: np.ndarray, pool: int) -> np.ndarray:
    """Take means of ``pool`` x ``pool`` pixels, rounded."""
    if pool == 1:
        return pixels
    *leading, rows, columns = pixels.shape
    cells = pixels.reshape(*leading, rows // pool, pool, columns // pool, pool)
    return np.rint(cells.mean(axis=(-3, -1))).astype(np.uint8)
