"""Figures as SVG text that takes the page's colours, light or dark."""

from __future__ import annotations

import io
import statistics
from typing import Any

import matplotlib as mpl

from .results import Results

mpl.use("svg")
import matplotlib.pyplot as plt

INK = "#010203"  # stands for the page's text colour, put in afterwards
PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


def learning_curves(results: Results) -> str:
    """Validation loss against steps: the mean over seeds, a band from the least to the greatest."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "resonant",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "font.size": 11,
    }
    with mpl.rc_context(style):
        figure, axes = plt.subplots(figsize=(7.5, 4.2))
        for index, arm in enumerate(results.arms):
            colour = PALETTE[index % len(PALETTE)]
            steps = [row["step"] for row in arm.curves[0]]
            by_step = list(
                zip(*[[row["valid_loss"] for row in c] for c in arm.curves], strict=True)
            )
            means = [statistics.fmean(losses) for losses in by_step]
            axes.plot(steps, means, color=colour, label=arm.name, linewidth=1.8)
            lows, highs = [min(x) for x in by_step], [max(x) for x in by_step]
            axes.fill_between(steps, lows, highs, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel("validation loss (nats per token)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        figure.tight_layout()
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")
