"""Tables of adapted models: how much of them learns, and where their layers look first."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kit.grid import Grid
from ..kit.results import ArmResult, Results
from .config import TOO_LONG

OF = ("pretrained", "branch")


def adapter_tables(results: Results) -> dict[str, Grid]:
    """Tables by heading; none where nothing was adapted."""
    arms = [arm for arm in results.arms if "sinks" in arm.runs[0]]
    if not arms:
        return {}
    return {"What learns": _learning(arms), "Weight of the first token": _sinks(arms)}


def _learning(arms: list[ArmResult]) -> Grid:
    rows = []
    for arm in arms:
        run = arm.runs[0]
        learning, everything = run["trainable_parameters"], run["parameters"]
        gammas, sigmas = (_learned(arm, name) for name in ("gamma", "sigma"))
        rows.append([arm.name, f"{learning:,}", f"{learning / everything:.1%}", gammas, sigmas])
    return Grid(
        ("arm", "learn", "of all", "gamma at the end", "sigma at the end"),
        rows,
        "Numbers that learn, and their share of all. gamma, 0 at the start, is how far a layer "
        "leans towards its branch, sigma the width of Krause attention (from 5.5): least and "
        "largest of all layers, heads and seeds." + _too_long(arms),
    )


def _too_long(arms: list[ArmResult]) -> str:
    """Count the examples that no arm learned from, as a sentence."""
    most = max(arm.runs[0].get(TOO_LONG, 0) for arm in arms)
    said = "Left out because their response begins beyond training.context"
    return f" {said}: {most:,} examples." if most else ""


def _learned(arm: ArmResult, name: str) -> str:
    """The range of a learned scalar of the branches."""
    ends = [run["learned_numbers"]["end"] for run in arm.runs]
    values = [x for end in ends for key, each in end.items() if key.endswith(name) for x in each]
    return f"{min(values):+.2f} to {max(values):+.2f}" if values else ""


def _sinks(arms: list[ArmResult]) -> Grid:
    layers = len(arms[0].runs[0]["sinks"]["pretrained"])
    rows = [
        [arm.name, of, *(f"{x:.3f}" for x in _by_layer(arm, of)), f"{_heads(arm, of).max():.3f}"]
        for arm in arms
        for of in OF
        if of in arm.runs[0]["sinks"]
    ]
    return Grid(
        ("arm", "row", *(f"layer {i + 1}" for i in range(layers)), "largest head"),
        rows,
        "Mean weight that later tokens give the first one where they see it, over heads, "
        "validation examples and seeds, in the pretrained attention and in the branch; the head "
        "with the largest.",
    )


def _heads(arm: ArmResult, of: str) -> Any:
    """(layer, head): means over seeds."""
    return np.mean([run["sinks"][of] for run in arm.runs], axis=0)


def _by_layer(arm: ArmResult, of: str) -> list[float]:
    return _heads(arm, of).mean(-1).tolist()
