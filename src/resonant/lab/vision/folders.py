"""A user's folder of images: classes by the names of folders, and which image is in which split.

Two layouts are known: DIR/CLASS/IMAGE, which is split here, and DIR/train/CLASS/IMAGE beside
DIR/valid and DIR/test (or one of them), whose split is kept.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .files import SUFFIXES, image_size

NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
HELD_OUT = 10  # of so many images of a class one validates, and one tests
EVERY = 20  # of so many images of train/ one validates, where no folder does
LEAST = 3  # images of a class, to be in every split
READ = 1 << 16  # bytes of a file by which copies are found
MEASURED = 200  # images whose size is looked at
CELLS = 8  # the usual side is a multiple of so many pixels, and at most CELLS ** 2
NEEDED = "needed is DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE with valid/ and test/ beside"

Labeled = tuple[Path, int]


@dataclass(frozen=True)
class Folder:
    """Names of classes, each split's images with their classes, and how the split was made."""

    classes: tuple[str, ...]
    splits: dict[str, list[Labeled]]
    words: str


def find_images(path: Path) -> Folder:
    """Find a folder's images, their classes and their splits.

    Of DIR/CLASS a tenth of each class validates and a tenth tests, by a hash of the files; copies
    are left out. Where train/ stands beside one other split, that one tests, and every twentieth of
    train/ validates.

    Raises ``UserError`` for a folder without two classes, a class without images, and splits of
    different classes.
    """
    if not path.is_dir():
        raise UserError(
            f"there is no folder {path}; check --data.path. {NEEDED[0].upper()}{NEEDED[1:]}"
        )
    named = {child.name.lower(): child for child in _folders(path)}
    of = {
        split: next((named[n] for n in names if n in named), None) for split, names in NAMES.items()
    }
    if of["train"] is None:
        return _drawn(path, path)
    if of["valid"] is None and of["test"] is None:
        return _drawn(of["train"], path)
    parts = {split: _classes(folder) for split, folder in of.items() if folder is not None}
    for split, part in parts.items():
        if part.names != parts["train"].names:
            other = sorted({*part.names} ^ {*parts["train"].names})
            raise UserError(
                f"{of['train']} and {of[split]} have other classes (first: {other[0]}); give both "
                "the same folders"
            )
    splits = {split: part.images for split, part in parts.items()}
    words = "its own split"
    if len(splits) == 2:
        (held,) = splits.keys() - {"train"}
        train, test = splits["train"], splits[held]
        kept = [each for i, each in enumerate(train) if i % EVERY]
        splits = {"train": kept, "valid": train[::EVERY], "test": test}
        words = f"{of[held].name}/ tests, every {EVERY}th image of {of['train'].name}/ validates"  # type: ignore[union-attr]
    if not splits["train"]:
        raise UserError(f"{of['train']} holds one image; at least two are needed")
    words += _left_out(sum((part.others for part in parts.values()), Counter()), 0)
    return Folder(parts["train"].names, splits, words)


@dataclass(frozen=True)
class _Classes:
    """Names of classes, images with their class, and files that are no images, by suffix."""

    names: tuple[str, ...]
    images: list[Labeled]
    others: Counter[str]


def _folders(path: Path) -> list[Path]:
    found = (child for child in path.iterdir() if child.is_dir())
    return sorted(child for child in found if not child.name.startswith((".", "__")))


def _classes(path: Path) -> _Classes:
    folders = _folders(path)
    images: list[Labeled] = []
    others: Counter[str] = Counter()
    for label, folder in enumerate(folders):
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
        found = [file for file in files if file.suffix.lower() in SUFFIXES]
        others.update(file.suffix.lower() or file.name for file in files if file not in {*found})
        if not found:
            raise UserError(
                f"{folder} holds no images ({', '.join(SUFFIXES)}); fill it, or remove the folder. "
                f"{NEEDED[0].upper()}{NEEDED[1:]}"
            )
        images += [(file, label) for file in found]
    if len(folders) < 2:
        raise UserError(
            f"{path} holds {len(folders)} folders of images, and at least two classes are needed; "
            f"{NEEDED}"
        )
    return _Classes(tuple(folder.name for folder in folders), images, others)


def _drawn(classes: Path, path: Path) -> Folder:
    """Split the images of each class by a hash of their files, so that copies cannot be in two."""
    found = _classes(classes)
    prints = fingerprints([image for image, _ in found.images])
    first: dict[str, Labeled] = {}
    for mark, each in zip(prints, found.images, strict=True):
        first.setdefault(mark, each)
    splits: dict[str, list[Labeled]] = {split: [] for split in NAMES}
    for label, name in enumerate(found.names):
        own = [each for _, each in sorted(first.items()) if each[1] == label]
        if len(own) < LEAST:
            raise UserError(
                f"class {name!r} of {path} has {len(own)} different images, and at least {LEAST} "
                "are needed to train, validate and test; add some, or remove the folder"
            )
        count = max(1, round(len(own) / HELD_OUT))
        splits["test"] += own[:count]
        splits["valid"] += own[count : 2 * count]
        splits["train"] += own[2 * count :]
    splits = {split: sorted(each) for split, each in splits.items()}
    words = f"split here: of each class one in {HELD_OUT} validates and one tests"
    copies = len(found.images) - len(first)
    return Folder(found.names, splits, words + _left_out(found.others, copies))


def _left_out(others: Counter[str], copies: int) -> str:
    """What is not used of a folder, as the end of a sentence."""
    said = [f"{copies:,} cop{'y' if copies == 1 else 'ies'}"] if copies else []
    if others:
        kinds, count = ", ".join(kind for kind, _ in others.most_common(5)), sum(others.values())
        said.append(f"{count:,} other file{'' if count == 1 else 's'} ({kinds})")
    return f"; left out: {' and '.join(said)}" if said else ""


def fingerprints(paths: Sequence[Path]) -> list[str]:
    """Hash each file's size and first 64 KiB."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_fingerprint, paths))


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(f"{path.stat().st_size} ".encode() + file.read(READ)).hexdigest()


def usual_side(folder: Folder) -> int:
    """The median of the images' shorter sides: a multiple of 8 pixels, from 8 to 64."""
    images = [path for each in folder.splits.values() for path, _ in each]
    some = images[:: max(1, len(images) // MEASURED)]
    with ThreadPoolExecutor() as pool:
        side = statistics.median(min(size) for size in pool.map(image_size, some))
    return CELLS * max(1, min(CELLS, int(side) // CELLS))
