"""Figures of images: where class tokens look, what models of pixels draw and complete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..kit.contents import read_arrays
from ..kit.results import Results, first_folder
from ..kit.svg import STYLE, as_svg
from .config import IMAGES

Kept = Mapping[str, np.ndarray]
SHOWN = 8  # images in a row
LETTERS = 14  # of a class under an image


def kept_images(results: Results, directory: Path) -> dict[str, Kept]:
    """The arrays of each arm's first seed, by arm, where it kept images."""
    found = {arm.name: read_arrays(first_folder(arm, directory) / IMAGES) for arm in results.arms}
    return {arm: each for arm, each in found.items() if each is not None}


def looks(kept: Mapping[str, Kept]) -> str:
    """Weights of the class token over images, last layer, mean over heads; a row an arm."""
    arms = {arm: each for arm, each in kept.items() if "looks" in each}
    if not arms:
        return ""
    first = next(iter(arms.values()))
    images = first["pictures"][:SHOWN]
    rows = {"picture": [(each, None) for each in images]}
    for arm, each in arms.items():
        heat = each["looks"][:SHOWN, -1].astype(np.float32).mean(1)
        rows[arm] = list(zip(each["pictures"][:SHOWN], heat, strict=True))
    with mpl.rc_context(STYLE):
        figure, grid = _rows(rows.keys(), len(images))
        for axes_row, cells in zip(grid, rows.values(), strict=True):
            for axes, (image, heat) in zip(axes_row, cells, strict=True):
                height, width = image.shape[:2]
                extent = (0, width, height, 0)
                shown = image if heat is None else image.mean(-1, keepdims=True)
                _show(axes, shown, extent=extent)
                if heat is not None:
                    axes.imshow(heat, cmap="inferno", alpha=0.65, extent=extent, vmin=0.0)
        for axes, name in zip(grid[-1], first.get("names", ()), strict=False):
            shown = str(name)
            axes.set_xlabel(shown if len(shown) <= LETTERS else f"{shown[:LETTERS]}…", fontsize=8)
        return as_svg(figure)


def completed(kept: Mapping[str, Kept]) -> str:
    """Validation images, what is kept of them, and what each arm puts below; a row an arm."""
    arms = {arm: each for arm, each in kept.items() if "completed" in each}
    if not arms:
        return ""
    truth = next(iter(arms.values()))["truth"][:SHOWN]
    known = truth.copy().astype(np.float32)
    known[:, known.shape[1] // 2 :] = np.nan
    rows = {"picture": truth, "kept": known}
    rows |= {arm: each["completed"][:SHOWN] for arm, each in arms.items()}
    with mpl.rc_context(STYLE):
        figure, grid = _rows(rows.keys(), len(truth))
        for axes_row, images in zip(grid, rows.values(), strict=True):
            for axes, image in zip(axes_row, images, strict=True):
                _show(axes, image)
        return as_svg(figure)


def drawn(kept: Mapping[str, Kept]) -> str:
    """Images that each arm draws; a row an arm."""
    arms = {arm: each["drawn"] for arm, each in kept.items() if "drawn" in each}
    if not arms:
        return ""
    with mpl.rc_context(STYLE):
        columns = min(2 * SHOWN, min(len(each) for each in arms.values()))
        figure, grid = _rows(arms.keys(), columns)
        for axes_row, images in zip(grid, arms.values(), strict=True):
            for axes, image in zip(axes_row, images, strict=False):
                _show(axes, image)
        return as_svg(figure)


def _rows(rows: Iterable[str], columns: int) -> tuple[Figure, np.ndarray]:
    """Axes (row, column) without ticks, the name of each row at its left."""
    names = list(rows)
    side = 7.0 / columns
    figure, grid = plt.subplots(
        len(names), columns, figsize=(2.2 + 7.0, 0.2 + side * len(names)), squeeze=False
    )
    for name, row in zip(names, grid, strict=True):
        for axes in row:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    figure.subplots_adjust(left=0.24, right=1.0, top=1.0, bottom=0.0, wspace=0.06, hspace=0.06)
    return figure, grid


def _show(axes: Axes, image: np.ndarray, **options: object) -> None:
    """An image (row, column, channel) of bytes, grey where it has one channel."""
    if image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255, **options)  # type: ignore[arg-type]
    else:
        axes.imshow(np.nan_to_num(image).astype(np.uint8), **options)  # type: ignore[arg-type]
