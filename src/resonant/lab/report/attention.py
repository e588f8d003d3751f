"""What models do at work, from the arrays that runs keep: maps, gates, numbers by depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from ...diagnostics.worth import Worth
from ..kit.contents import read_arrays
from ..kit.folder import DIAGNOSIS
from ..kit.grid import Grid
from ..kit.svg import STYLE, as_svg, legend, line_style

Diagnosis = Mapping[str, np.ndarray]
PANELS = {
    "residual": "residual |X - mean| / |X|",
    "clusters": "clusters of tokens",
    "token_cosine": "mean cosine of two tokens",
    "effective_rank": "effective rank",
    "entropy": "entropy / log(visible keys)",
    "sink": "weight of the first token",
}
# What the arrays of a model at work must hold, at least.
HELD = {"weights": (4, "f"), "layers": (1, "U"), "residual": (1, "f")}
MOST_ROWS, MOST_COLUMNS = 12, 8  # of a figure of maps


@dataclass(frozen=True)
class GateText:
    """A text and the gate of each token, mean over heads, in one layer."""

    arm: str
    layer: str
    tokens: list[tuple[str, float]]
    shut: float


def read_diagnosis(directory: Path) -> Diagnosis | None:
    """What a run kept of its model at work, or None."""
    return read_arrays(directory / DIAGNOSIS, HELD)


def attention_maps(diagnosis: Diagnosis) -> str:
    """Weights of the first row: a line a layer, a column a head; queries down, keys across."""
    weights = diagnosis["weights"][:MOST_ROWS, :MOST_COLUMNS].astype(np.float32)
    layers, heads = weights.shape[:2]
    with mpl.rc_context(STYLE):
        size = (0.5 + 1.45 * heads, 0.35 + 1.5 * layers)
        figure, grid = plt.subplots(layers, heads, figsize=size, squeeze=False)
        for layer, row in enumerate(grid):
            for head, axes in enumerate(row):
                # The square root shows faint weights too; rounding leaves some below 0.
                shown = np.sqrt(weights[layer, head].clip(min=0.0))
                axes.imshow(shown, cmap="viridis", vmin=0.0, vmax=1.0)
                axes.set_xticks([])
                axes.set_yticks([])
                if layer == 0:
                    axes.set_title(f"head {head}", fontsize=9)
            row[0].set_ylabel(f"layer {layer + 1}", fontsize=9)
        return as_svg(figure)


def depth_curves(diagnoses: Mapping[str, Diagnosis]) -> str:
    """Six numbers by layer, a line an arm; means over heads where there are heads."""
    if not diagnoses:
        return ""
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(2, 3, figsize=(9.5, 5.0))
        for panel, (name, says) in zip(grid.flat, PANELS.items(), strict=True):
            for index, (arm, found) in enumerate(diagnoses.items()):
                values = by_layer(found, name)
                layers = np.arange(1, len(values) + 1)
                panel.plot(layers, values, marker=".", label=arm, **line_style(index))
            most = max(len(by_layer(found, name)) for found in diagnoses.values())
            panel.set_xticks(range(1, most + 1))
            panel.set_title(says, fontsize=10)
            panel.set_xlabel("layer", fontsize=9)
            panel.margins(y=0.12)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        columns = min(4, len(labels))
        figure.legend(handles, labels, frameon=False, ncols=columns, loc="lower center", fontsize=9)
        return as_svg(figure, bottom=0.03 + 0.045 * -(-len(labels) // columns))


def order_curves(diagnoses: Mapping[str, Diagnosis]) -> str:
    """Order parameter by layers passed, faint heads and their mean; empty without phases."""
    known = {arm: found["order"] for arm, found in diagnoses.items() if "order" in found}
    if not known:
        return ""
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 3.4))
        for index, (arm, order) in enumerate(known.items()):
            line = line_style(index)
            axes.plot(order, color=line["color"], alpha=0.25, linewidth=1.0)
            axes.plot(order.mean(1), marker=".", label=arm, **line)
        axes.set_xticks(range(max(len(order) for order in known.values())))
        axes.set_xlabel("layers passed")
        axes.set_ylabel("order parameter R")
        axes.set_ylim(0, 1.02)
        legend(axes, len(known))
        return as_svg(figure)


def gate_texts(diagnoses: Mapping[str, Diagnosis]) -> list[GateText]:
    """The first row's tokens with their gates, layer by layer, of arms that have gates."""
    found = []
    for arm, each in diagnoses.items():
        if "gates" not in each:
            continue
        for layer, gates, shut in zip(
            each["gated"], each["gates"], each["gates_shut"], strict=True
        ):
            pairs = zip(each["tokens"].tolist(), gates.mean(0).tolist(), strict=True)
            found.append(GateText(arm, str(layer), list(pairs), float(shut)))
    return found


def depth_table(diagnosis: Diagnosis) -> Grid:
    """The numbers by layer."""
    rows = []
    for layer in range(len(diagnosis["layers"])):
        values = [by_layer(diagnosis, each)[layer] for each in PANELS]
        share = diagnosis["sink_share"][layer]
        cells = [f"{x:.1f}" if x >= 10 else f"{x:.3f}" for x in values]
        alike = f"{diagnosis['uniform_sink'][layer]:.3f}"
        rows.append([str(layer + 1), *cells, alike, "" if np.isnan(share) else f"{share:.2f}"])
    return Grid(
        (
            "layer",
            "residual",
            "clusters",
            "cosine",
            "rank",
            "entropy",
            "sink",
            "if uniform",
            "sinks",
        ),
        rows,
        "Of what enters each attention: residual |X - mean| / |X|, clusters of directions within "
        "0.1 radians, mean cosine of two tokens, effective rank (entropy of the singular values). "
        "Of its weights: entropy over log(visible keys), mean weight of the first token, what "
        "uniform attention would give it, and the share of heads that give it above 0.3 (not where "
        "fewer than 10 keys are seen).",
    )


def worth_table(worth: Worth, own: Mapping[str, float] | None = None) -> Grid:
    """Tabulate what each attention layer is worth; ``own`` is the mean own weight, by layer."""
    rows = []
    for index, layer in enumerate(worth.layers, start=1):
        heads = " ".join(f"{each:+.4f}" for each in layer.heads)
        seen = [] if own is None else [f"{own[layer.name]:.3f}"]
        rows.append([str(index), layer.name, f"{layer.worth:+.4f}", *seen, heads])
    seen = () if own is None else ("own weight",)
    return Grid(
        ("layer", "name", "worth", *seen, "by head"),
        rows,
        f"Validation loss {worth.loss:.4f}. Worth: what it rises by where the layer, or one head "
        "of it, adds nothing; below 0 the model is better without."
        + (" Own weight: what a token gives itself, mean over heads." if seen else ""),
    )


def by_layer(diagnosis: Diagnosis, name: str) -> Any:
    """(layer): a number, its mean over heads where it is one a head."""
    values = diagnosis[name]
    return values.mean(1) if values.ndim > 1 else values
