"""Pictures of alignment: where frames look, how clocks run, error against tempo."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from ..kit.contents import read_arrays
from ..kit.results import ArmResult, Results, first_folder
from ..kit.svg import INK, PALETTE, STYLE, as_svg, line_style
from .conditions import ALIGNMENT, REAL, SHOWN, TEMPI
from .tables import BOUNDARY, aligned, frame_ms, tested

TRUTH = "#ee6677"
SLOW = "0.6"  # the condition under which a clock that listens is drawn


def tempo_curves(results: Results) -> str:
    """Boundary error against tempo: mean over seeds, a band from the least to the greatest.

    A panel for each arm without a control, with those compared with it.
    """
    arms = aligned(results)
    if not arms or not {f"{tempo:g}" for tempo in TEMPI} <= set(tested(arms, BOUNDARY)):
        return ""
    families: dict[str, list[ArmResult]] = {}
    for arm in arms:
        families.setdefault(_root(arm, arms), []).append(arm)
    with mpl.rc_context(STYLE):
        length = frame_ms(arms)
        unit, scale = ("frames", 1.0) if length is None else ("ms", length)
        size = (8.6, 3.9 * len(families))
        figure, grid = plt.subplots(len(families), 1, figsize=size, sharey=True, squeeze=False)
        for axes, family in zip(grid[:, 0], families.values(), strict=True):
            _family(axes, family, scale)
            axes.set_ylabel(f"boundary error ({unit})")
        grid[-1, 0].set_xlabel("tempo (training: 1)")
        return as_svg(figure)


def _root(arm: ArmResult, arms: list[ArmResult]) -> str:
    """The last of the arm's controls, or itself."""
    by_name = {each.name: each for each in arms}
    return arm.name if arm.control not in by_name else _root(by_name[arm.control], arms)


def _family(axes: Any, arms: list[ArmResult], scale: float) -> None:
    for index, arm in enumerate(arms):
        losses = [[scale * x for x in arm.losses(f"{BOUNDARY}@{tempo:g}")] for tempo in TEMPI]
        line = line_style(index)
        means = [statistics.fmean(each) for each in losses]
        axes.plot(TEMPI, means, label=arm.name, marker=".", **line)
        ends = [min(x) for x in losses], [max(x) for x in losses]
        axes.fill_between(TEMPI, *ends, color=line["color"], alpha=0.18, linewidth=0)
    known = [scale * arms[0].mean(f"stretched_{BOUNDARY}@{tempo:g}") for tempo in TEMPI]
    dotted: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": ":"}
    axes.plot(TEMPI, known, label="stretched durations", **dotted)
    axes.set_xscale("log")
    axes.set_xticks(TEMPI, [f"{tempo:g}" for tempo in TEMPI])
    if min(known) > 0:
        axes.set_yscale("log", nonpositive="clip")
        low, high = axes.get_ylim()
        ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)


def matrices(results: Results, directory: Path) -> str:
    """Weights of one utterance, a row an arm, a column a tempo, the true alignment drawn over."""
    pictures = kept_pictures(results, directory)
    if not pictures:
        return ""
    shown = shown_conditions(pictures)
    with mpl.rc_context(STYLE):
        size = (3.2 * len(shown), 1.75 * len(pictures) + 0.4)
        figure, grid = plt.subplots(len(pictures), len(shown), figsize=size, squeeze=False)
        for row, (arm, kept) in zip(grid, pictures.items(), strict=True):
            for axes, name in zip(row, shown, strict=True):
                _matrix(axes, kept[f"weights@{name}"], kept[f"durations@{name}"])
            row[0].set_ylabel(f"{arm}\nsymbol", fontsize=9)
        for axes, name in zip(grid[0], shown, strict=True):
            axes.set_title(condition_title(name), fontsize=10)
        for axes in grid[-1]:
            axes.set_xlabel("frame", fontsize=9)
        return as_svg(figure)


def _matrix(axes: Any, weights: np.ndarray, durations: np.ndarray) -> None:
    """Weights (frame, symbol) between two stairs: the true symbol's lower and upper edge."""
    look: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    axes.imshow(weights.T.astype(np.float32), cmap="viridis", vmin=0.0, vmax=1.0, **look)
    edges = np.concatenate([[0], durations.cumsum()]) - 0.5
    for edge in (-0.5, 0.5):
        height = np.arange(len(durations)) + edge
        axes.stairs(height, edges, baseline=None, color=TRUTH, linewidth=1.2)
    axes.set_xlim(-0.5, len(weights) - 0.5)
    axes.set_ylim(-0.5, len(durations) - 0.5)
    axes.tick_params(length=2, labelsize=8)


def clock_curves(results: Results, directory: Path) -> str:
    """The target's clock over frames, and the source's at the true ends of its symbols."""
    clocks = {
        arm: kept
        for arm, kept in kept_pictures(results, directory).items()
        if f"target@{SHOWN[0]}" in kept
    }
    if not clocks:
        return ""
    columns = min(3, len(clocks))
    lines = -(-len(clocks) // columns)
    with mpl.rc_context(STYLE):
        size = (max(6.4, 3.2 * columns), 2.5 * lines + 0.5)
        figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False)
        for axes in grid.flat:
            axes.set_visible(False)
        for axes, (arm, kept) in zip(grid.flat, clocks.items(), strict=False):
            axes.set_visible(True)
            _one_clock(axes, kept)
            axes.set_title(arm, fontsize=10)
            axes.set_xlabel("frame", fontsize=9)
            axes.tick_params(labelsize=8)
        grid[0, 0].set_ylabel("clock time", fontsize=9)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="lower center")
        return as_svg(figure, bottom=0.1 / lines)


def _one_clock(axes: Any, kept: Mapping[str, np.ndarray]) -> None:
    for name, colour in zip(shown_conditions({"": kept}), PALETTE, strict=False):
        target, source = kept[f"target@{name}"], kept[f"source@{name}"]
        ends = kept[f"durations@{name}"].cumsum()
        label = condition_title(name)
        # Clocks that listen are kept at the middle of each frame, others at its end.
        middle = 0.5 if f"observed@{name}" in kept else 0.0
        axes.plot(np.arange(1, len(target) + 1) - middle, target, color=colour, label=label)
        axes.plot(ends, source, ".", color=colour, markersize=5)


def listening_clock(results: Results, directory: Path) -> str:
    """The clock of the last arm that listens at tempo 0.6: place, spread, what it observed."""
    name = f"@{SLOW}"
    clocks = [
        (arm, kept)
        for arm, kept in kept_pictures(results, directory).items()
        if f"observed{name}" in kept
    ]
    if not clocks:
        return ""
    arm, kept = clocks[-1]
    place, source = kept[f"target{name}"], kept[f"source{name}"]
    spread = 2.0 * np.sqrt(np.maximum(kept[f"variance{name}"], 0.0))
    frames = np.arange(len(place)) + 0.5
    ends = kept[f"durations{name}"].cumsum()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.6, 3.9))
        observed = kept[f"observed{name}"][1:]  # the first frame looks at nothing
        axes.plot(frames[1:], observed, ".", color=PALETTE[2], markersize=4, label="observed")
        axes.fill_between(
            frames, place - spread, place + spread, color=PALETTE[0], alpha=0.25, linewidth=0
        )
        axes.plot(frames, place, color=PALETTE[0], label="the clock, 2 standard deviations")
        axes.plot(
            np.concatenate([[0], ends]),
            np.concatenate([[0.0], source]),
            color=TRUTH,
            linewidth=1.2,
            label="the truth",
        )
        axes.set_title(f"{arm}, {condition_title(SLOW)}", fontsize=10)
        axes.set_xlabel("frame")
        axes.set_ylabel("clock time (of the source)")
        axes.legend(frameon=False, loc="upper left", fontsize=9)
        return as_svg(figure)


def shown_conditions(pictures: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    """Those of which every arm kept a picture."""
    return [s for s in SHOWN if all(f"weights@{s}" in kept for kept in pictures.values())]


def condition_title(name: str) -> str:
    """What stands over a picture."""
    return "a recording" if name == REAL else f"tempo {name}"


def kept_pictures(results: Results, directory: Path) -> dict[str, dict[str, np.ndarray]]:
    """What the first seed of each arm kept for pictures, by arm."""
    arms = aligned(results)
    found = {arm.name: read_arrays(first_folder(arm, directory) / ALIGNMENT) for arm in arms}
    return {arm: kept for arm, kept in found.items() if kept is not None}
