"""A user's folder of images: classes by the names of folders, and which image is in which split.

Two layouts are known: DIR/CLASS/IMAGE, which is split here, and DIR/train/CLASS/IMAGE beside
DIR/valid and DIR/test (or one of them), whose split is kept.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UserError
from .files import SUFFIXES, image_size
from .kept import fingerprints

NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}
HELD_OUT = 10  # of so many images of a class one validates, and one tests
EVERY = 20  # of so many images of a class in train/ one validates, where no folder does
LEAST = 3  # images of a class, to be in every split
MEASURED = 200  # images whose size is looked at
CELLS = 8  # the usual side is a multiple of so many pixels, and at most CELLS ** 2
NEEDED = "needed is DIR/CLASS/IMAGE, or DIR/train/CLASS/IMAGE with valid/ and test/ beside"

Labeled = tuple[Path, int]


@dataclass(frozen=True)
class Folder:
    """Names of classes, each split's images with their classes, and how the split was made.

    ``marks`` are the hashes of the images' files.
    """

    classes: tuple[str, ...]
    splits: dict[str, list[Labeled]]
    words: str
    marks: dict[Path, str]


@dataclass
class _Found:
    """Names of classes, images with their class, and what else lies there, by kind."""

    names: tuple[str, ...] = ()
    images: list[Labeled] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def find_images(path: Path) -> Folder:
    """Find a folder's images, their classes and their splits.

    Of DIR/CLASS a tenth of each class validates and a tenth tests, by a hash of the files. Where
    train/ stands beside one other split, that one tests, and every twentieth image of each class in
    train/ validates. Copies are left out, of train first; so are images that lie in two classes.

    Raises ``UserError`` for a folder without two classes, a class without images, and splits of
    different classes.
    """
    if not path.is_dir():
        raise UserError(f"there is no folder {path}; check --data.path: {NEEDED}")
    of = _split_folders(path)
    parts = {split: _classes(folder) for split, folder in of.items()}
    names = parts[next(iter(parts))].names
    for split, part in parts.items():
        if part.names != names:
            other = sorted({*part.names} ^ {*names})
            raise UserError(
                f"{of['train']} and {of[split]} have other classes (first: {other[0]}); give both "
                "the same folders"
            )
    marks = fingerprints(path, [image for part in parts.values() for image, _ in part.images])
    others = sum((part.others for part in parts.values()), _beside(path, of))
    splits = {split: part.images for split, part in parts.items()}
    splits, left_out = _without_copies(splits, marks)
    if len(splits) == 1:
        words = f"split here: of each class one in {HELD_OUT} validates and one tests"
        splits = _drawn(next(iter(splits.values())), names, marks, path)
    elif len(splits) == 2:
        (held,) = splits.keys() - {"train"}
        words = (
            f"{of[held].name}/ tests, every {EVERY}th of a class in {of['train'].name}/ validates"
        )
        valid = [
            each for own in _by_class(splits["train"]) if len(own) > 1 for each in own[::EVERY]
        ]
        train = [each for each in splits["train"] if each not in {*valid}]
        splits = {"train": train, "valid": sorted(valid), "test": splits[held]}
    else:
        words = "its own split"
    _check_train(splits["train"], names, path)
    ordered = {split: splits[split] for split in NAMES}
    return Folder(names, ordered, words + _said(left_out, others), marks)


def _split_folders(path: Path) -> dict[str, Path]:
    """Find train/ and the other splits' folders; the folder itself where train/ is none."""
    named: dict[str, list[Path]] = defaultdict(list)
    for child in _folders(path):
        for split, names in NAMES.items():
            if child.name.lower() in names:
                named[split].append(child)
    several = next((each for each in named.values() if len(each) > 1), None)
    if not named["train"] or not any(_folders(child) for child in named["train"]):
        return {"train": path}  # a class may be called train
    if several is not None:
        both = " and ".join(child.name for child in several)
        raise UserError(f"{path} holds {both}, which are one split; keep one of them")
    return {split: named[split][0] for split in NAMES if named[split]}


def _folders(path: Path) -> list[Path]:
    found = (child for child in path.iterdir() if child.is_dir())
    return sorted(child for child in found if not child.name.startswith((".", "__")))


def _classes(path: Path) -> _Found:
    """Find the images of every class, in folders inside it too; hidden ones are passed over."""
    folders = _folders(path)
    found = _Found(tuple(folder.name for folder in folders))
    for label, folder in enumerate(folders):
        before = len(found.images)
        for file in images_of(folder, found.others):
            found.images.append((file, label))
        if len(found.images) == before:
            raise UserError(
                f"{folder} holds no images ({', '.join(SUFFIXES)}); fill it, or remove the folder: "
                f"{NEEDED}"
            )
    if len(folders) < 2:
        raise UserError(
            f"{path} holds {len(folders)} folders of images, and at least two classes are needed; "
            f"{NEEDED}"
        )
    return found


def images_of(folder: Path, others: Counter[str] | None = None) -> list[Path]:
    """List the images in a folder and those inside it, but for hidden ones; count other files."""
    found = []
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder).parts
        if any(part.startswith((".", "__")) for part in inside) or not file.is_file():
            continue
        if file.suffix.lower() in SUFFIXES:
            found.append(file)
        elif others is not None:
            others[file.suffix.lower() or file.name] += 1
    return found


def _beside(path: Path, of: dict[str, Path]) -> Counter[str]:
    """Count what lies beside the folders of classes or splits: files, and folders of no split."""
    used = {*of.values(), *(() if path not in of.values() else _folders(path))}
    shown = [child for child in path.iterdir() if not child.name.startswith((".", "__"))]
    kinds = (child.suffix.lower() or child.name for child in shown if child.is_file())
    folders = (f"{child.name}/" for child in shown if child.is_dir() and child not in used)
    return Counter([*kinds, *folders])


def _without_copies(
    splits: dict[str, list[Labeled]], marks: dict[Path, str]
) -> tuple[dict[str, list[Labeled]], Counter[str]]:
    """Leave out images that lie in two classes, and of copies all but one; train gives way."""
    labels: dict[str, set[int]] = defaultdict(set)
    for each in splits.values():
        for image, label in each:
            labels[marks[image]].add(label)
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    kept: dict[str, list[Labeled]] = {}
    for split in ("test", "valid", "train"):
        for image, label in splits.get(split, ()):
            mark = marks[image]
            if len(labels[mark]) > 1:
                left_out["in two classes"] += 1
            elif mark in seen:
                left_out["copies"] += 1
            else:
                kept.setdefault(split, []).append((image, label))
                seen.add(mark)
    return {split: kept.get(split, []) for split in splits}, left_out


def _by_class(images: list[Labeled]) -> list[list[Labeled]]:
    own: dict[int, list[Labeled]] = defaultdict(list)
    for each in images:
        own[each[1]].append(each)
    return list(own.values())


def _drawn(
    images: list[Labeled], names: tuple[str, ...], marks: dict[Path, str], path: Path
) -> dict[str, list[Labeled]]:
    """Split the images of each class by the hashes of their files."""
    splits: dict[str, list[Labeled]] = {split: [] for split in NAMES}
    for label, name in enumerate(names):
        own = sorted((each for each in images if each[1] == label), key=lambda x: marks[x[0]])
        if len(own) < LEAST:
            raise UserError(
                f"class {name!r} of {path} has {len(own)} different images of its own, and at "
                f"least {LEAST} are needed to train, validate and test; add some, or remove the "
                "folder"
            )
        count = max(1, round(len(own) / HELD_OUT))
        splits["test"] += own[:count]
        splits["valid"] += own[count : 2 * count]
        splits["train"] += own[2 * count :]
    return {split: sorted(each) for split, each in splits.items()}


def _check_train(train: list[Labeled], names: tuple[str, ...], path: Path) -> None:
    """Raise ``UserError`` for a class that nothing is left of to train on."""
    for label in sorted({*range(len(names))} - {label for _, label in train}):
        raise UserError(
            f"class {names[label]!r} of {path} has no image of its own to train on (copies of "
            "tested ones are left out); add some, or remove the folder"
        )


def _said(left_out: Counter[str], others: Counter[str]) -> str:
    """Say what is not used of a folder, as the end of a sentence."""
    said = [f"{left_out[kind]:,} {kind}" for kind in ("copies", "in two classes") if left_out[kind]]
    if others:
        kinds, count = ", ".join(kind for kind, _ in others.most_common(5)), sum(others.values())
        said.append(f"{count:,} other file{'' if count == 1 else 's'} or folders ({kinds})")
    return f"; left out: {', '.join(said)}" if said else ""


def usual_side(folder: Folder) -> int:
    """Find the median of the images' shorter sides: a multiple of 8 pixels, from 8 to 64."""
    images = [path for each in folder.splits.values() for path, _ in each]
    some = images[:: max(1, len(images) // MEASURED)]
    with ThreadPoolExecutor() as pool:
        side = statistics.median(min(size) for size in pool.map(image_size, some))
    return CELLS * max(1, min(CELLS, int(side) // CELLS))
