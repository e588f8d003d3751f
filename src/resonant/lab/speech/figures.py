"""Pictures of speech: spectrograms with the true boundaries, and where models put them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from ..alignment.conditions import REAL
from ..alignment.figures import TRUTH, condition_title, kept_pictures, shown_conditions
from ..kit.results import Results
from ..kit.svg import STYLE, as_svg

OURS = "#ffffff"
Kept = Mapping[str, np.ndarray]


def spoken_pictures(results: Results, directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """What the first seed of each arm that speaks kept, by arm."""
    pictures = kept_pictures(results, directory)
    return {arm: kept for arm, kept in pictures.items() if "true@1" in kept}


def spectrograms(results: Results, directory: Path) -> str:
    """Frames as made, a row an arm, a column a condition; the true ones first.

    True boundaries are drawn from above, those of the model from below.
    """
    pictures = spoken_pictures(results, directory)
    if not pictures:
        return ""
    shown = shown_conditions(pictures)
    first = next(iter(pictures.values()))
    lengths = [len(first[f"true@{name}"]) for name in shown]
    with mpl.rc_context(STYLE):
        size = (max(8.0, 0.065 * sum(lengths)), 1.25 * len(pictures) + 1.9)
        figure, grid = plt.subplots(
            1 + len(pictures), len(shown), figsize=size, squeeze=False, width_ratios=lengths
        )
        for column, name in enumerate(shown):
            _truth(grid[0, column], first, name)
            for row, kept in enumerate(pictures.values(), start=1):
                _made(grid[row, column], kept, name)
        for axes, label in zip(grid[:, 0], ["as spoken", *pictures], strict=True):
            axes.set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
        for axes in grid.flat:
            axes.set_yticks([])
            axes.tick_params(length=2, labelsize=8)
        for axes in grid[:-1].flat:
            axes.set_xticks([])
        for axes in grid[-1]:
            axes.set_xlabel("frame", fontsize=9)
        return as_svg(figure)


def _truth(axes: Any, kept: Kept, name: str) -> None:
    """The true frames, phonemes written over them."""
    durations = kept[f"durations@{name}"]
    _picture(axes, kept[f"true@{name}"])
    _lines(axes, durations.cumsum()[:-1], (0.0, 1.0), TRUTH)
    middles = durations.cumsum() - durations / 2 - 0.5
    look: dict[str, Any] = {"fontsize": 7, "ha": "center"}
    for index, (middle, phoneme) in enumerate(zip(middles, kept[f"phonemes@{name}"], strict=True)):
        height = 1.03 + 0.12 * (index % 2)  # neighbours would touch
        axes.text(middle, height, phoneme, transform=axes.get_xaxis_transform(), **look)
    axes.set_title(condition_title(name), fontsize=10, pad=22)


def _made(axes: Any, kept: Kept, name: str) -> None:
    """The frames that a model made; of a recording, its own: the voice is none that it learnt."""
    _picture(axes, kept[f"true@{name}" if name == REAL else f"made@{name}"])
    _lines(axes, kept[f"durations@{name}"].cumsum()[:-1], (0.55, 1.0), TRUTH)
    weights = kept[f"weights@{name}"]
    pointed = np.bincount(weights.argmax(1), minlength=weights.shape[1])
    _lines(axes, pointed.cumsum()[:-1], (0.0, 0.45), OURS)


def _picture(axes: Any, mel: np.ndarray) -> None:
    look: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    axes.imshow(mel.astype(np.float32).T, cmap="magma", vmin=-7.0, vmax=4.0, **look)


def _lines(axes: Any, ends: np.ndarray, between: tuple[float, float], colour: str) -> None:
    for end in ends:
        axes.axvline(end - 0.5, *between, color=colour, linewidth=0.9)
