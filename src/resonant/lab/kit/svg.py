"""Figures as SVG text that takes the page's colours, light or dark."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

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
