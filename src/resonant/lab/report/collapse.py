"""The strip of pictures of particles that collapse, or do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle

from ...diagnostics.collapse import Collapse
from ..kit.grid import Grid
from ..kit.svg import INK, PALETTE, STYLE, as_svg

NAMES = {
    "softmax": "softmax",
    "softmax-window": "softmax\nin Krause's window",
    "softmax-sharp": "softmax\nas sharp as Krause",
    "krause": "Krause",
    "kuramoto": "Kuramoto",
}


def collapse_strip(worlds: Sequence[Collapse]) -> str:
    """A row a mechanism, a column a depth: spheres seen from one side, colours by first place."""
    depths = worlds[0].depths
    size = (1.35 * len(depths) + 1.5, 1.42 * len(worlds) + 0.35)
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(len(worlds), len(depths), figsize=size, squeeze=False)
        for row, world in zip(grid, worlds, strict=True):
            colours = _colours(world.states[0].numpy())
            numbers = zip(world.clusters, world.residual, strict=True)
            for axes, state, (count, rest) in zip(row, world.states, numbers, strict=True):
                _sphere(axes, state.numpy(), colours)
                said = f"{count} cluster{'s' if count > 1 else ''} ({rest:.2f})"
                axes.set_title(said, fontsize=8.5, y=-0.13, va="top")
            row[0].text(
                -0.12,
                0.5,
                NAMES[world.mechanism],
                transform=row[0].transAxes,
                ha="right",
                va="center",
                fontsize=10.5,
            )
        for axes, depth in zip(grid[0], depths, strict=True):
            axes.text(
                0.5, 1.06, f"layer {depth}", transform=axes.transAxes, ha="center", fontsize=10
            )
        figure.subplots_adjust(0.2, 0.035, 0.995, 0.955, wspace=0.05, hspace=0.3)
        return as_svg(figure, tight=False)


def _sphere(axes: Any, points: np.ndarray, colours: np.ndarray) -> None:
    turned = _turned(points)
    order = turned[:, 2].argsort()  # what is behind is drawn first, and faint
    faint = np.where(turned[order, 2] < 0, 0.25, 0.95)
    axes.add_patch(Circle((0, 0), 1.0, color=INK, alpha=0.06, linewidth=0))
    axes.scatter(
        turned[order, 0],
        turned[order, 1],
        s=9,
        c=np.column_stack([colours[order], faint]),
        linewidths=0,
        rasterized=True,
    )
    axes.set_xlim(-1.08, 1.08)
    axes.set_ylim(-1.08, 1.08)
    axes.set_aspect("equal")
    axes.axis("off")


def _turned(points: np.ndarray) -> np.ndarray:
    """Seen from above the equator."""
    x, y, z = points.T
    return np.column_stack([x, 0.9 * y - 0.436 * z, 0.436 * y + 0.9 * z])


def _colours(start: np.ndarray) -> np.ndarray:
    """(particle, 3): colour by longitude at the start, so that one sees who met whom."""
    longitude = np.arctan2(start[:, 1], start[:, 0]) / (2 * np.pi) + 0.5
    return plt.get_cmap("twilight_shifted")(0.08 + 0.84 * longitude)[:, :3]


def collapse_curves(worlds: Sequence[Collapse]) -> str:
    """Clusters and residual against depth."""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(7.5, 3.2))
        for index, world in enumerate(worlds):
            line = {"color": PALETTE[index], "linewidth": 1.8}
            depths = [depth + 1 for depth in world.depths]
            name = NAMES[world.mechanism].replace("\n", " ")
            panels[0].plot(depths, world.clusters, label=name, **line)
            panels[1].plot(depths, world.residual, label=name, **line)
        panels[0].set_ylabel("clusters")
        panels[1].set_ylabel("residual")
        panels[0].set_yscale("log")
        for axes in panels:
            axes.set_xscale("log")
            axes.set_xlabel("layers passed, plus one")
        panels[1].set_ylim(0, 1.03)
        panels[0].legend(frameon=False, fontsize=8.5)
        return as_svg(figure)


def collapse_table(worlds: Sequence[Collapse]) -> Grid:
    """Clusters and residual by mechanism and depth."""
    depths = worlds[0].depths
    rows = [
        [
            world.mechanism,
            *(f"{c} ({r:.2f})" for c, r in zip(world.clusters, world.residual, strict=True)),
        ]
        for world in worlds
    ]
    return Grid(
        ("arm", *(str(depth) for depth in depths)),
        rows,
        "By the number of layers passed: clusters (directions joined within 0.1 radians) of "
        f"{worlds[0].states.shape[1]} particles, in brackets the residual |X - mean| / |X|, 0 when "
        "all are in one place.",
    )
