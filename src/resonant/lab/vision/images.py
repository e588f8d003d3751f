"""Images with classes, split into train, valid and test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ...errors import UserError
from ..kit.download import Remote, fetch
from .config import OWN, ImagesConfig
from .files import pooled, read_cifar, read_idx, read_image
from .folders import find_images
from .kept import read_images

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST = {
    "train-images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CIFAR10 = Remote(
    name="cifar10",
    file="cifar-10-binary.tar.gz",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    packed=True,  # the hash that is known is the archive's own
)
CIFAR10_SUBSET = Remote(
    name="cifar10-subset",
    file="cifar-10-binary-subset.tar.gz",
    url="",
    sha256="cfda9dfae2755763d064541f8c4cec864afe48977c3906774e242680950318f0",
)
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
DIGITS = tuple("0123456789")
SPLITS = ("train", "valid", "test")
SHUFFLE = 2026  # of the splits that we draw
NAMED = 12  # classes of a folder in its description, at most
HELD_BYTES = 1 << 29  # of a folder's images, which are held in memory; more are streamed


@runtime_checkable
class ImageSplit(Protocol):
    """Images of one split, as bytes, and their classes."""

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images ``rows`` (n, channel, row, column), unsigned bytes."""
        ...


@dataclass(frozen=True)
class Held:
    """Images in memory: ``pixels`` (n, channel, row, column), ``labels`` (n)."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images ``rows``."""
        return self.pixels[np.asarray(rows)]


@dataclass(frozen=True)
class Streamed:
    """Images read from their files when they are asked for."""

    paths: tuple[Path, ...]
    labels: np.ndarray
    side: int
    pool: int

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Images ``rows``, read now; raises ``UserError`` for one that cannot be read."""
        return np.stack(
            [pooled(read_image(self.paths[i], self.side)[None], self.pool)[0] for i in rows]
        )


@dataclass(frozen=True)
class Images:
    """Images by split, the names of their classes, and a hash of them all.

    ``words`` say how they were split and what is left out, where that is not known from the name.
    """

    name: str
    splits: dict[str, ImageSplit]
    classes: tuple[str, ...]
    digest: str
    words: str = ""


@lru_cache(maxsize=2)
def load_images(config: ImagesConfig, data_dir: Path | None = None) -> Images:
    """The images that ``config`` names; kept for the process.

    Splits: of digits 1,197, 300 and 300, shuffled by a fixed seed; of MNIST and CIFAR-10 the last
    tenth (MNIST: twelfth) of the training part validates, the test part is official; of your folder
    as ``folders.find_images`` has it.

    Raises ``UserError`` for files that are missing, damaged or others than the name says.
    """
    if config.name == OWN:
        return _folder(config)
    classes = CIFAR10_CLASSES if config.name.startswith("cifar10") else DIGITS
    if config.name == "digits":
        splits = _digits()
    elif config.name == "mnist":
        splits = _mnist(data_dir)
    else:
        splits = _cifar(config.name, data_dir)
    digest = hashlib.sha256()
    held: dict[str, ImageSplit] = {}
    for split in SPLITS:
        pixels, labels = splits[split]
        digest.update(pixels.tobytes() + labels.tobytes())
        held[split] = Held(pooled(pixels, config.pool), labels.astype(np.int64))
    return Images(config.name, held, classes, digest.hexdigest())


def describe(images: Images, config: ImagesConfig) -> str:
    """One line for tables: the data's name, counts, sizes and hash."""
    counts = " + ".join(f"{len(images.splits[split]):,}" for split in SPLITS)
    shape = f"{config.side} x {config.side}" + (" x 3" if config.channels == 3 else "")
    shades = "" if config.levels == 256 else f", {config.levels} levels"
    found = f"{images.name}, {counts} pictures, {shape}{shades}, sha256 {images.digest[:12]}"
    if not images.words:
        return found
    some = [*images.classes[:NAMED], *(["..."] if len(images.classes) > NAMED else [])]
    return f"{found}; {len(images.classes)} classes ({', '.join(some)}); {images.words}"


Split = dict[str, tuple[np.ndarray, np.ndarray]]


def _digits() -> Split:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("digits are scikit-learn's; pip install 'resonant[vision]'") from error
    found: Any = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)[:, None]
    order = np.random.Generator(np.random.Philox(key=SHUFFLE)).permutation(len(pixels))
    rows = np.split(order, [len(order) - 600, len(order) - 300])
    labels = found.target.astype(np.uint8)
    return {name: (pixels[each], labels[each]) for name, each in zip(SPLITS, rows, strict=True)}


def _mnist(data_dir: Path | None) -> Split:
    arrays = {}
    for name, sha256 in MNIST.items():
        file = f"{name}-idx{3 if name.endswith('images') else 1}-ubyte.gz"
        remote = Remote("mnist", file, MNIST_URL + file, sha256)
        arrays[name] = read_idx(fetch(remote, data_dir), file)
    train = arrays["train-images"][:, None], arrays["train-labels"]
    test = arrays["t10k-images"][:, None], arrays["t10k-labels"]
    return _held_out(train, test, 5_000)


def _cifar(name: str, data_dir: Path | None) -> Split:
    remote, batches = (CIFAR10, 5) if name == "cifar10" else (CIFAR10_SUBSET, 2)
    if not remote.url and data_dir is None:
        raise UserError(
            f"{name} has no address to be downloaded from; put {remote.file} into a folder and "
            "pass --data-dir FOLDER, or use --data.name cifar10"
        )
    content = fetch(remote, data_dir)
    members = tuple(f"data_batch_{i + 1}.bin" for i in range(batches))
    pixels, labels = read_cifar(content, members, remote.file)
    test = read_cifar(content, ("test_batch.bin",), remote.file)
    return _held_out((pixels, labels), (test[0], test[1]), len(labels) // 10)


def _held_out(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], count: int
) -> Split:
    pixels, labels = train
    return {
        "train": (pixels[:-count], labels[:-count]),
        "valid": (pixels[-count:], labels[-count:]),
        "test": test,
    }


def _folder(config: ImagesConfig) -> Images:
    """Find the images of a user's folder: few are read at once and kept, many as they are needed.

    The hash is of classes, splits and the content of files.
    """
    root = Path(config.path or "")
    folder = find_images(root)
    marked = {
        split: [[label, folder.marks[path]] for path, label in each]
        for split, each in folder.splits.items()
    }
    digest = hashlib.sha256(json.dumps([folder.classes, marked]).encode()).hexdigest()
    labels = {
        split: np.array([label for _, label in each], dtype=np.int64)
        for split, each in folder.splits.items()
    }
    paths = {split: tuple(path for path, _ in each) for split, each in folder.splits.items()}
    splits: dict[str, ImageSplit]
    if sum(map(len, paths.values())) * 3 * config.side**2 <= HELD_BYTES:
        pixels = read_images([*chain(*paths.values())], folder.marks, config)
        borders = np.cumsum([len(each) for each in paths.values()])[:-1]
        parts = zip(paths, np.split(pixels, borders), strict=True)
        splits = {split: Held(each, labels[split]) for split, each in parts}
    else:
        splits = {
            split: Streamed(each, labels[split], config.side * config.pool, config.pool)
            for split, each in paths.items()
        }
    return Images(root.resolve().name, splits, folder.classes, digest, folder.words)
