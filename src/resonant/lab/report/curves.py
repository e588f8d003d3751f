"""Figures of every comparison: learning curves, differences, learning rates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.pyplot as plt

from ..kit.results import Results
from ..kit.statistics import Difference
from ..kit.svg import INK, PALETTE, STYLE, as_svg, legend, line_style


def learning_curves(results: Results) -> str:
    """Validation loss against steps: the mean over seeds, a band from the least to the greatest.

    Empty of runs without steps.
    """
    if not any(arm.curves[0] for arm in results.arms):
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 4.2))
        for index, arm in enumerate(results.arms):
            line = line_style(index)
            steps = [row["step"] for row in arm.curves[0]]
            losses = [[row["valid_loss"] for row in curve] for curve in arm.curves]
            by_step = list(zip(*losses, strict=True))
            means = [statistics.fmean(each) for each in by_step]
            dot = "." if len(steps) == 1 else None
            axes.plot(steps, means, label=arm.name, marker=dot, **line)
            lows, highs = [min(x) for x in by_step], [max(x) for x in by_step]
            axes.fill_between(steps, lows, highs, color=line["color"], alpha=0.18, linewidth=0)
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel(f"validation loss ({results.unit})")
        legend(axes, len(results.arms))
        return as_svg(figure)


@dataclass(frozen=True)
class Row:
    """An arm and its control: their names, the arm's place, differences by seed, and in all."""

    arm: str
    control: str
    place: int
    seeds: Sequence[float]
    difference: Difference


def differences(results: Results) -> str:
    """Paired differences to each control: seeds, mean and interval. Empty without a control."""
    by_name = {arm.name: arm for arm in results.arms}
    rows = []
    for place, arm in enumerate(results.arms):
        if arm.control is not None and arm.difference is not None:
            theirs = by_name[arm.control].losses("test_loss")
            seeds = [a - b for a, b in zip(arm.losses("test_loss"), theirs, strict=True)]
            rows.append(Row(arm.name, arm.control, place, seeds, arm.difference))
    return difference_rows(rows, f"difference of test loss: left is better\n({results.unit})")


def difference_rows(rows: Sequence[Row], label: str) -> str:
    """Draw differences below one another; nothing of none."""
    if not rows:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.55 * len(rows)))
        for height, row in enumerate(reversed(rows)):
            colour = PALETTE[row.place % len(PALETTE)]
            axes.scatter(row.seeds, [height] * len(row.seeds), color=colour, alpha=0.35, s=18)
            half, mean = row.difference.half_width, row.difference.mean
            axes.errorbar(mean, height, xerr=half, color=colour, fmt="o", capsize=4, linewidth=1.8)
        names = [f"{row.arm}\nto {row.control}" for row in reversed(rows)]
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(label)
        return as_svg(figure)


def rates(results: Results) -> str:
    """Validation loss against learning rate, each arm's best marked. Empty without a sweep."""
    sweep = results.sweep
    if sweep is None:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 3.8))
        for index, arm in enumerate(results.arms):
            if arm.name not in sweep.losses:  # of another comparison, with rates of its own
                continue
            losses, line = sweep.losses[arm.name], line_style(index)
            tried = [rate for rate in sweep.rates if math.isfinite(losses[rate])]
            axes.plot(tried, [losses[r] for r in tried], marker=".", label=arm.name, **line)
            best = sweep.best(arm.name)
            axes.plot(best, losses[best], "o", color=line["color"], markersize=11, fillstyle="none")
        axes.set_xscale("log")
        axes.set_xticks(sweep.rates, [f"{rate:g}" for rate in sweep.rates])
        axes.minorticks_off()
        axes.set_xlabel("peak learning rate")
        axes.set_ylabel(f"validation loss ({results.unit})")
        legend(axes, len(results.arms))
        return as_svg(figure)
