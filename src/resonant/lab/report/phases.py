"""A model's phases: order by layer, head and token, and phases over layers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch

from ...diagnostics import PhaseRecord
from ...functional.manifold import Circle
from ..kit.grid import Grid
from ..kit.svg import INK, PALETTE, STYLE, as_svg

SHOWN_TOKENS = 60  # more would not be legible
CHOSEN_TOKENS = 6


def phase_table(record: PhaseRecord) -> Grid:
    """Order parameter, local order and clusters of the first row, by layer and head."""
    order, clusters = record.order()[:, 0], record.clusters()[:, 0]
    local, own = (x[:, 0].nanmean(-1) for x in (record.local_order(), record.own_weight()))
    layers, heads = local.shape
    rows = []
    for state, head in itertools.product(range(layers + 1), (*range(heads), None)):
        of = [order[state], clusters[state].float()]
        of += [local[state], own[state]] if state < layers else []
        one = [(x.mean() if head is None else x[head]).item() for x in of]
        name = f"into layer {state + 1}" if state < layers else "at the end"
        cells = [f"{one[0]:.3f}", f"{one[1]:.1f}", *(f"{x:.3f}" for x in one[2:])]
        rows.append([name, "mean" if head is None else str(head), *cells, *[""] * (4 - len(cells))])
    real = int(record.real[0].sum())
    return Grid(
        ("phases", "head", "order R", "clusters", "local order", "own weight"),
        rows,
        f"R: length of the mean over all {real} tokens, 1 in step; {real} independent phases would "
        f"have some {1 / math.sqrt(max(real, 1)):.2f}. Clusters: tokens joined where their phases "
        "differ by less than half a radian. Local order: R of those a token listens to, weighted; "
        "own weight: what it gives itself, which moves nothing; both averaged over tokens.",
    )


def phase_sections(record: PhaseRecord, tokens: list[str]) -> dict[str, Any]:
    """Table and figures of phases for a page; ``tokens`` are the texts of the first row."""
    first = max(0, len(tokens) - SHOWN_TOKENS)
    return {
        "table": phase_table(record),
        "local": _local_order(record, tokens, first),
        "order": _order(record),
        "paths": _paths(record, tokens),
    }


def _order(record: PhaseRecord) -> str:
    """R against depth, a line a head."""
    order = record.order()[:, 0].numpy()
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 3.4))
        for head in range(order.shape[1]):
            colour = PALETTE[head % len(PALETTE)]
            dashes = "-" if head < len(PALETTE) else "--"
            axes.plot(order[:, head], dashes, color=colour, marker=".", label=f"head {head}")
        axes.axhline(1 / math.sqrt(int(record.real[0].sum())), color=INK, linewidth=0.8, ls=":")
        _depth(axes, order.shape[0])
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("order parameter R")
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return as_svg(figure)


def _local_order(record: PhaseRecord, tokens: list[str], first: int) -> str:
    """R of those a token listens to: layers against tokens, the mean over heads."""
    local = record.local_order()[:, 0].nanmean(1)[:, first:].numpy()
    shown = [_visible(token) for token in tokens[first:]]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9.5, 1.1 + 0.32 * len(local)))
        image = axes.imshow(
            local, aspect="auto", cmap="viridis", vmin=min(0.9, float(np.nanmin(local))), vmax=1.0
        )
        axes.set_xticks(range(len(shown)), shown, fontsize=8)
        axes.set_yticks(range(len(local)), [f"layer {i + 1}" for i in range(len(local))])
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label="local order", pad=0.01)
        return as_svg(figure)


def _paths(record: PhaseRecord, tokens: list[str]) -> str:
    """Phases of a few tokens over layers, one small picture a head. Empty off the circle."""
    if not isinstance(record.manifold, Circle):
        return ""
    real = record.real[0].nonzero().flatten()
    chosen = real[torch.linspace(0, len(real) - 1, min(CHOSEN_TOKENS, len(real))).long()]
    angles = record.angles(chosen)[..., 0]  # the first coordinate of each head
    # A step of more than half a turn is the short way round.
    steps = torch.remainder(angles.diff(dim=0) + math.pi, 2 * math.pi) - math.pi
    unrolled = torch.cat([angles[:1], angles[:1] + steps.cumsum(0)]).numpy()
    columns = min(4, unrolled.shape[2])
    lines = math.ceil(unrolled.shape[2] / columns)
    with mpl.rc_context(STYLE):
        size = (2.4 * columns, 2.1 * lines + 0.4)
        figure, grid = plt.subplots(
            lines, columns, figsize=size, sharex=True, sharey=True, squeeze=False
        )
        for head, axes in enumerate(grid.flat):
            if head >= unrolled.shape[2]:
                axes.set_visible(False)
                continue
            for index, token in enumerate(chosen.tolist()):
                label = f"{_visible(tokens[token])} ({token})"
                colour = PALETTE[index % len(PALETTE)]
                axes.plot(unrolled[:, index, head], color=colour, marker=".", label=label)
            axes.set_title(f"head {head}", fontsize=9)
            _depth(axes, unrolled.shape[0], short=True)
        grid[0, 0].set_ylabel("phase (radians)")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, ncols=len(labels), loc="lower center")
        return as_svg(figure, bottom=0.12 / lines)


def _depth(axes: Any, states: int, *, short: bool = False) -> None:
    names = [str(i) for i in range(states)]
    axes.set_xticks(range(states), names)
    if not short:
        axes.set_xlabel("layers passed")


def _visible(token: str) -> str:
    return {" ": "␣", "\n": "⏎", "\t": "⇥"}.get(token, token).replace("$", r"\$")
