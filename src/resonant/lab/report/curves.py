"""Figures of every comparison: learning curves, differences, learning rates."""

from __future__ import annotations

import math
import statistics

import matplotlib as mpl
import matplotlib.pyplot as plt

from ..kit.results import Results
from ..kit.svg import INK, PALETTE, STYLE, as_svg, legend, line_style


def learning_curves(results: Results) -> str:
    """Validation loss against steps: the mean over seeds, a band from the least to the greatest."""
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


def differences(results: Results) -> str:
    """Paired differences to each control: seeds, mean and interval. Empty without a control."""
    compared = [arm for arm in results.arms if arm.difference is not None]
    if not compared:
        return ""
    by_name = {arm.name: arm for arm in results.arms}
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.55 * len(compared)))
        for height, arm in enumerate(reversed(compared)):
            control = by_name[arm.control or ""]
            colour = PALETTE[results.arms.index(arm) % len(PALETTE)]
            pairs = zip(arm.losses("test_loss"), control.losses("test_loss"), strict=True)
            seeds = [ours - theirs for ours, theirs in pairs]
            axes.scatter(seeds, [height] * len(seeds), color=colour, alpha=0.35, s=18)
            assert arm.difference is not None
            half = arm.difference.half_width
            mean = arm.difference.mean
            axes.errorbar(mean, height, xerr=half, color=colour, fmt="o", capsize=4, linewidth=1.8)
        names = [f"{arm.name}\nto {arm.control}" for arm in reversed(compared)]
        axes.set_yticks(range(len(compared)), names)
        axes.set_ylim(-0.6, len(compared) - 0.4)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(f"difference of test loss: left is better\n({results.unit})")
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
