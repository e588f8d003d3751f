"""Tables of adapted models: how much of them learns, and where their layers look first."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kit.grid import Grid, difference_cells
from ..kit.results import ArmResult, Results
from ..kit.statistics import paired_difference
from .config import NEAR, NEAR_TOKENS, TOO_LONG

OF = ("pretrained", "branch")
FEW_LAYERS = 8  # that are columns; of more, each is a row
BESIDE = "beside_loss"


def adapter_tables(results: Results) -> dict[str, Grid]:
    """Tables by heading; none where nothing was adapted."""
    arms = [arm for arm in results.arms if "sinks" in arm.runs[0]]
    if not arms:
        return {}
    tables = {}
    if all(BESIDE in arm.runs[0]["metrics"] and NEAR in arm.runs[0] for arm in arms):
        tables["Sinks, and what they cost"] = _price(arms)
    tables |= {"What learns": _learning(arms), "Weight of the first token": _sinks(arms)}
    many = len(arms[0].runs[0]["sinks"]["pretrained"]) > FEW_LAYERS
    if many and any(_gammas(arm) for arm in arms):
        tables["Gamma by layer"] = _gamma(arms)
    return tables


def _price(arms: list[ArmResult]) -> Grid:
    """Lay weights of the first token beside losses and their differences to the first arm's."""
    first = arms[0]
    columns = ("arm", "weight", "response", f"to {first.name}", "beside", f"to {first.name} there")
    return Grid(
        columns,
        [
            [
                arm.name,
                f"{_near(arm):.3f}",
                *_loss(arm, first, "test_loss"),
                *_loss(arm, first, BESIDE),
            ]
            for arm in arms
        ],
        f"Weight of the first token: the mean over layers, heads, seeds and the later queries "
        f"among the first {NEAR_TOKENS} tokens of validation examples, in the attention that was "
        "pretrained or stands in its place. Losses in nats per token, of the responses of the test "
        "split and of the text beside. Differences are paired by seed, with their 95 % interval: "
        "negative is better.",
    )


def _near(arm: ArmResult) -> float:
    return float(np.mean([run[NEAR]["pretrained"] for run in arm.runs]))


def _loss(arm: ArmResult, first: ArmResult, metric: str) -> tuple[str, str]:
    """Format a loss and its difference to the first arm's."""
    loss = f"{arm.mean(metric):.3f}"
    if arm is first:
        return loss, ""
    found = paired_difference(arm.losses(metric), first.losses(metric))
    return loss, difference_cells(first.name, found, digits=3)[1]


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


def _gammas(arm: ArmResult) -> dict[str, float]:
    """Average over seeds how far each layer leans towards its branch."""
    ends = [run["learned_numbers"]["end"] for run in arm.runs]
    names = [name for name in ends[0] if name.endswith(".gamma")]
    return {name: float(np.mean([end[name] for end in ends])) for name in names}


def _gamma(arms: list[ArmResult]) -> Grid:
    by_arm = {arm.name: list(_gammas(arm).values()) for arm in arms if _gammas(arm)}
    rows = [
        [f"layer {i + 1}", *(f"{x:+.4f}" for x in each)]
        for i, each in enumerate(zip(*by_arm.values(), strict=True))
    ]
    said = "gamma at the end, 0 at the start: how far a layer leans towards its branch; the mean "
    return Grid(("row", *by_arm), rows, said + "over seeds.")


def _learned(arm: ArmResult, name: str) -> str:
    """The range of a learned scalar of the branches."""
    ends = [run["learned_numbers"]["end"] for run in arm.runs]
    values = [x for end in ends for key, each in end.items() if key.endswith(name) for x in each]
    return f"{min(values):+.2f} to {max(values):+.2f}" if values else ""


def _sinks(arms: list[ArmResult]) -> Grid:
    layers = len(arms[0].runs[0]["sinks"]["pretrained"])
    shown = [(arm, of) for arm in arms for of in OF if of in arm.runs[0]["sinks"]]
    layer_names = [f"layer {i + 1}" for i in range(layers)]
    rows = [
        [arm.name, of, *(f"{x:.3f}" for x in _by_layer(arm, of)), f"{_heads(arm, of).max():.3f}"]
        for arm, of in shown
    ]
    columns = ("arm", "row", *layer_names, "largest head")
    if layers > FEW_LAYERS:  # on its side
        names = [arm.name if of == OF[0] else f"{arm.name}: {of}" for arm, of in shown]
        rows = [[columns[i], *(row[i] for row in rows)] for i in range(2, len(columns))]
        columns = ("row", *names)
    return Grid(
        columns,
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
