"""Losses by position in the window: where in a sequence an arm is better or worse."""

from __future__ import annotations

import itertools
import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ..kit.results import ArmResult, Results
from ..kit.svg import INK, STYLE, as_svg, legend, line_style


def losses_by_position(arm: ArmResult) -> np.ndarray | None:
    """(seed, position): test losses, or None where runs did not record them."""
    if any("loss_by_position" not in run for run in arm.runs):
        return None
    return np.array([run["loss_by_position"] for run in arm.runs])


def position_curves(results: Results) -> str:
    """Losses by position: themselves beside a known floor, else minus the first arm's.

    A panel for each length of window. Empty where runs did not record them.
    """
    known = {arm.name: losses_by_position(arm) for arm in results.arms}
    losses = {name: each for name, each in known.items() if each is not None}
    if len(losses) < len(known):
        return ""
    lengths = sorted({each.shape[1] for each in losses.values()})
    if results.floor is None and (len(lengths) > 1 or len(losses) < 2 or lengths[0] < 2):
        return ""
    with mpl.rc_context(STYLE):
        if results.floor is None:
            figure, axes = plt.subplots(figsize=(7.5, 4.4))
            _relative(axes, losses, results.unit)
            return as_svg(figure)
        columns = min(2, len(lengths))
        rows = math.ceil(len(lengths) / columns)
        figure, grid = plt.subplots(
            rows, columns, figsize=(7.5, 0.6 + 2.9 * rows), squeeze=False, sharey=True
        )
        for panel, length in zip(grid.flat, lengths, strict=False):
            here = {name: each for name, each in losses.items() if each.shape[1] == length}
            _absolute(panel, here, results.floor)
        for panel in grid[:, 0]:
            panel.set_ylabel(f"test loss ({results.unit})")
        for panel in grid.flat[len(lengths) :]:
            panel.set_visible(False)
        return as_svg(figure)


def gap_curves(results: Results) -> str:
    """Draw validation losses minus the first arm's, against steps, paired by seed.

    Empty with one arm, fewer than two evaluations, or arms of other steps.
    """
    first, *others = results.arms
    steps = [row["step"] for row in first.curves[0]]
    for arm in results.arms:
        if any([row["step"] for row in curve] != steps for curve in arm.curves):
            return ""
    if not others or len(steps) < 2:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 4.2))
        base = _valid_losses(first)
        for index, arm in enumerate(others, start=1):
            line, gaps = line_style(index), _valid_losses(arm) - base
            axes.plot(steps, gaps.mean(0), label=arm.name, marker=".", **line)
            axes.fill_between(
                steps, gaps.min(0), gaps.max(0), color=line["color"], alpha=0.12, linewidth=0
            )
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel(f"validation loss minus that of {first.name}\n({results.unit})")
        legend(axes, len(results.arms))
        return as_svg(figure)


def _valid_losses(arm: ArmResult) -> np.ndarray:
    """(seed, evaluation)."""
    return np.array([[row["valid_loss"] for row in curve] for curve in arm.curves])


def _absolute(axes: Axes, losses: dict[str, np.ndarray], floor: float) -> None:
    """Mean over seeds, a band from the least to the greatest, and the floor."""
    for index, (name, each) in enumerate(losses.items()):
        line, positions = line_style(index), np.arange(1, each.shape[1] + 1)
        axes.plot(positions, each.mean(0), label=name, **line)
        axes.fill_between(
            positions, each.min(0), each.max(0), color=line["color"], alpha=0.18, linewidth=0
        )
    axes.axhline(floor, color=INK, linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("tokens seen")
    legend(axes, len(losses))


def _relative(axes: Axes, losses: dict[str, np.ndarray], unit: str) -> None:
    """Differences to the first arm, in blocks of positions that grow, with all seeds' range."""
    first, *others = losses
    edges = position_edges(losses[first].shape[1])
    middles = [math.sqrt((a + 1) * b) for a, b in itertools.pairwise(edges)]
    for index, name in enumerate(losses):
        if name not in others:
            continue
        line, difference = line_style(index), losses[name] - losses[first]
        blocks = np.array([difference[:, a:b].mean(1) for a, b in itertools.pairwise(edges)])
        axes.plot(middles, blocks.mean(1), label=name, marker=".", **line)
        axes.fill_between(
            middles, blocks.min(1), blocks.max(1), color=line["color"], alpha=0.12, linewidth=0
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xscale("log", base=2)
    ticks = [2**n for n in range(int(math.log2(edges[-1])) + 1)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("tokens seen")
    axes.set_ylabel(f"test loss minus that of {first}\n({unit})")
    legend(axes, len(losses))


def position_edges(length: int) -> list[int]:
    """List 0, 1, 2, 3, 4, 6, 8, 12, 16 ...: two blocks a doubling, up to ``length``."""
    edges = [0, 1]
    while edges[-1] < length:
        last = edges[-1]
        power = 2 ** int(math.log2(last))
        edges.append(min(length, last + max(1, power // 2)))
    return edges
