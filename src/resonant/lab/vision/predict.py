"""`resonant predict RUN FILE...`: classes of image files, by a trained model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...errors import UserError


def main(arguments: list[str]) -> int:
    """Print the likeliest classes of each file; status 2 if one cannot be read."""
    options = make_parser().parse_args(arguments)
    if options.top < 1:
        raise UserError(f"--top must be at least 1; it is {options.top}")
    import torch

    from ..kit.grid import Grid, as_rich, table_console
    from .classifier import open_classifier

    torch.set_num_threads(1)
    classifier = open_classifier(options.run)
    classes = classifier.inputs.classes
    files = [file for given in options.files for file in _list_files(Path(given))]
    top = min(options.top, len(classes))
    rows, faults = [], []
    for file in files:
        try:
            (probabilities,) = classifier.predict([file])
        except UserError as error:
            faults.append(str(error))
            continue
        order = (-probabilities).argsort(kind="stable")[:top]
        rows.append([str(file), *(f"{classes[i]} {100 * probabilities[i]:.1f} %" for i in order)])
    if rows:
        heads = ("image", "predicted", *(f"{place}." for place in range(2, top + 1)))
        console = table_console()
        console.print(as_rich(Grid(heads, rows, "")))
    for fault in faults:
        print(f"resonant: {fault}", file=sys.stderr)
    return 2 if faults else 0


def _list_files(given: Path) -> list[Path]:
    """List the images of a folder, or the file itself."""
    from .files import SUFFIXES
    from .folders import images_of

    if not given.is_dir():
        return [given]
    found = images_of(given)
    if not found:
        raise UserError(f"{given} holds no images ({', '.join(SUFFIXES)}); give files or a folder")
    return found


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command's options."""
    parser = argparse.ArgumentParser(
        prog="resonant predict",
        description="Classes of images by the model of a finished run, with probabilities.",
    )
    parser.add_argument("run", help="folder of a run, such as runs/images/softmax-seed0")
    parser.add_argument("files", nargs="+", help="images, or folders of them")
    parser.add_argument("--top", type=int, default=3, help="classes to show, likeliest first (3)")
    return parser
