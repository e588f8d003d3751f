"""Figures as SVG text that takes the page's colours, light or dark."""

from __future__ import annotations

import io
import math
import statistics
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from .results import Results

mpl.use("svg")
import matplotlib.pyplot as plt

INK = "#010203"  # stands for the page's text colour, put in afterwards
PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
DASHES = ("-", "--", ":")


STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "resonant",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "font.size": 11,
}


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


def line_style(index: int) -> dict[str, Any]:
    """How the line of an arm looks; dashed where there are more arms than colours."""
    dashes = DASHES[index // len(PALETTE) % len(DASHES)]
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": dashes, "linewidth": 1.8}


def legend(axes: Any, arms: int) -> None:
    """A legend that hides no line."""
    many = arms > len(PALETTE)  # would hide the lines
    beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if many else {}
    axes.legend(frameon=False, **beside)


def as_svg(figure: Figure, *, bottom: float = 0.0, tight: bool = True) -> str:
    """The figure as an SVG element whose ink is the page's text colour.

    ``bottom`` is the share of its height kept free below, for a legend; a figure that is not
    ``tight`` keeps its own margins.
    """
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    if tight:
        figure.tight_layout(rect=(0, bottom, 1, 1))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def on_paper(svg: str) -> str:
    """An SVG element as a file of its own: dark ink on white, whatever the page around it."""
    return svg.replace("<svg", '<svg style="color:#1f2328;background:#fff"', 1) + "\n"
