"""Quality against what it costs, and learned scalars over training."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from ..kit.folder import LEARNED
from ..kit.metrics import read_metrics
from ..kit.results import ArmResult, Results, first_folder
from ..kit.svg import STYLE, as_svg, legend, line_style


def budget_curves(results: Results) -> str:
    """Validation loss against time and FLOPs of training, of arms whose cost was measured.

    Empty where none was, or no step was made.
    """
    arms = [(i, arm) for i, arm in enumerate(results.arms) if arm.curves[0]]
    measured = [(i, arm, arm.measured) for i, arm in arms if arm.measured]
    if not measured:
        return ""
    with mpl.rc_context(STYLE):
        figure, panels = plt.subplots(1, 2, figsize=(9.5, 4.0), sharey=True)
        for index, arm, cost in measured:
            steps, losses = mean_curve(arm)
            tokens = np.array(steps) * (arm.runs[0]["tokens"] / steps[-1])
            units = (1.0 / cost["tokens_per_second"], cost["flops_per_token"] / 1e12)
            for panel, unit in zip(panels, units, strict=True):
                dot = "." if len(steps) == 1 else None
                panel.plot(tokens * unit, losses, label=arm.name, marker=dot, **line_style(index))
        panels[0].set_xlabel("seconds of one core")
        panels[1].set_xlabel("TFLOPs")
        panels[0].set_ylabel(f"validation loss\n({results.unit})")
        legend(panels[1], len(measured))
        return as_svg(figure)


def mean_curve(arm: ArmResult) -> tuple[list[float], list[float]]:
    """Steps, and the validation loss there, mean over seeds."""
    losses = zip(*([row["valid_loss"] for row in curve] for curve in arm.curves), strict=True)
    return [row["step"] for row in arm.curves[0]], [statistics.fmean(each) for each in losses]


def learned_curves(results: Results, directory: Path) -> str:
    """Learned scalars over training, seed 0: a panel a kind, a line a layer, mean over heads.

    Empty where runs kept none.
    """
    kinds: dict[str, list[tuple[str, list[float], np.ndarray]]] = {}
    for arm in results.arms:
        path = first_folder(arm, directory) / LEARNED
        for name, (steps, values) in _histories(path).items():
            kind = name.rpartition(".")[2] + (" of positions" if "position" in name else "")
            layer = next((part for part in name.split(".") if part.isdigit()), None)
            label = arm.name if layer is None else f"{arm.name}, layer {int(layer) + 1}"
            kinds.setdefault(kind, []).append((label, steps, values))
    if not kinds:
        return ""
    columns = min(3, len(kinds))
    lines = math.ceil(len(kinds) / columns)
    with mpl.rc_context(STYLE):
        size = (0.6 + 3.1 * columns, 0.3 + 2.9 * lines)
        figure, grid = plt.subplots(lines, columns, figsize=size, squeeze=False)
        for panel, (kind, histories) in zip(grid.flat, sorted(kinds.items()), strict=False):
            for index, (label, steps, values) in enumerate(histories):
                line = line_style(index)
                panel.plot(steps, values.mean(1), label=label, **line)
                low, high = values.min(1), values.max(1)
                panel.fill_between(steps, low, high, color=line["color"], alpha=0.12, linewidth=0)
            panel.set_title(kind, fontsize=10)
            panel.set_xlabel("optimiser steps", fontsize=9)
            if len(histories) <= 8:
                panel.legend(frameon=False, fontsize=7.5)
        for panel in list(grid.flat)[len(kinds) :]:
            panel.set_visible(False)
        return as_svg(figure)


def _histories(path: Path) -> dict[str, tuple[list[float], np.ndarray]]:
    """By scalar: steps, and its values (step, head)."""
    rows = read_metrics(path, columns=None)
    if not rows:
        return {}
    names: dict[str, list[str]] = {}
    for column in rows[0]:
        if column != "step":
            names.setdefault(column.partition("[")[0], []).append(column)
    steps = [row["step"] for row in rows]
    return {
        name: (steps, np.array([[row[column] for column in columns] for row in rows]))
        for name, columns in names.items()
    }
