"""What training made of learned scalars and of Morlet positions: tables and a figure."""

from __future__ import annotations

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from ..kit.grid import Grid
from ..kit.results import ArmResult, Results
from ..kit.svg import INK, STYLE, as_svg, line_style

VISIBLE = 0.01  # of its size at the first token: below, an encoding is as good as none


def learned_tables(results: Results) -> dict[str, Grid]:
    """Gates and Morlet positions by arm, under headings; without either, nothing."""
    gates = [[arm.name, *_gate_cells(arm)] for arm in results.arms if _has_gate(arm)]
    morlet = [[arm.name, *_morlet_cells(arm)] for arm in results.arms if _sigmas(arm)]
    tables = {}
    if gates:
        tables["Gates"] = Grid(
            ("arm", "alpha", "least", "greatest", "tau", "least tau", "greatest tau"),
            gates,
            "Steepness alpha and threshold tau after training: mean, least, greatest over layers, "
            "heads and seeds.",
        )
    if morlet:
        tables["Morlet positions"] = Grid(
            (
                "arm",
                "sigma at start",
                "learned sigma",
                "omega at start",
                "learned omega",
                "visible at start",
                "visible learned",
            ),
            morlet,
            "Widths sigma in tokens, frequencies omega in radians a token, least to greatest over "
            "pairs of features (and seeds). Visible: tokens until the encoding's length is below "
            f"{VISIBLE:.0%} of that at the first (mean over seeds).",
        )
    return tables


def morlet_figure(results: Results) -> str:
    """Widths over frequencies, and the encoding's length over positions, at start and learned."""
    arms = [(i, arm) for i, arm in enumerate(results.arms) if _sigmas(arm)]
    if not arms:
        return ""
    with mpl.rc_context(STYLE):
        figure, (pairs, lengths) = plt.subplots(1, 2, figsize=(7.5, 3.8))
        start = _sigmas(arms[0][1], "start")[0]
        pairs.plot(_sigmas(arms[0][1], "start", "omega")[0], start, color=INK)
        end = 2 * max(_reach(sigma) for _, arm in arms for sigma in _sigmas(arm))
        lengths.plot(range(end), encoding_length(start, end), color=INK, label="at start")
        for index, arm in arms:
            line = line_style(index)
            ends = zip(_sigmas(arm, "end", "omega"), _sigmas(arm), strict=True)
            for number, (omega, sigma) in enumerate(ends):
                shown = arm.name if number == 0 else None
                pairs.plot(omega, sigma, ".", color=line["color"], alpha=0.5, markersize=4)
                lengths.plot(range(end), encoding_length(sigma, end), label=shown, **line)
        pairs.set_xlabel("omega (radians a token)")
        pairs.set_ylabel("sigma (tokens)")
        lengths.set_ylim(0, 1.02)
        lengths.set_xlabel("position")
        lengths.set_ylabel("length of the encoding")
        lengths.legend(frameon=False, loc="upper right")
        return as_svg(figure)


def encoding_length(sigma: np.ndarray, end: int) -> np.ndarray:
    """(position): ``sqrt(mean_c exp(-t^2 / sigma_c^2))``, 1 at the first token."""
    time = np.arange(end)[:, None]
    return np.sqrt(np.exp(-((time / sigma) ** 2)).mean(1))


def _numbers(arm: ArmResult, suffix: str, when: str = "end") -> list[list[float]]:
    """By seed and module, the learned numbers whose names end so; empty if there are none."""
    return [
        values
        for run in arm.runs
        for name, values in run.get("learned_numbers", {}).get(when, {}).items()
        if name.endswith(suffix)
    ]


def _sigmas(arm: ArmResult, when: str = "end", what: str = "sigma") -> list[np.ndarray]:
    """By seed, widths (or frequencies) of absolute Morlet positions."""
    return [np.array(values) for values in _numbers(arm, f"position.{what}", when)]


def _reach(sigma: np.ndarray) -> int:
    """The first position at which the encoding is not visible any more."""
    end = math.ceil(sigma.max() * math.sqrt(-2.0 * math.log(VISIBLE))) + 1
    return int(np.argmax(encoding_length(sigma, end) < VISIBLE))


def _has_gate(arm: ArmResult) -> bool:
    return any(_numbers(arm, f"gate.{name}") for name in ("alpha", "tau"))


def _gate_cells(arm: ArmResult) -> list[str]:
    """Empty where a gate does not learn the number."""
    cells = []
    for name in ("alpha", "tau"):
        found = np.array(_numbers(arm, f"gate.{name}"))
        shown = (found.mean(), found.min(), found.max()) if found.size else ()
        cells += [f"{round(x, 2) + 0.0:.2f}" for x in shown] or ["", "", ""]
    return cells


def _morlet_cells(arm: ArmResult) -> list[str]:
    cells = []
    for what in ("sigma", "omega"):
        for when in ("start", "end"):
            values = np.array(_sigmas(arm, when, what))
            cells.append(f"{values.min():.2f} to {values.max():.2f}")
    for when in ("start", "end"):
        cells.append(f"{np.mean([_reach(sigma) for sigma in _sigmas(arm, when)]):.1f}")
    return cells
