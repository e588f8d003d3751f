"""What a comparison says of itself, written before it begins."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ...files import write_atomically
from ..kit.config import differences, plain
from ..kit.experiment import Arm
from ..kit.folder import COMPARISON
from .against import Against
from .plan import Plan


def prepare(plan: Plan, against: Against | None = None) -> None:
    """Write down what the comparison is, and whose runs stand ``against`` it."""
    beside = [] if against is None else against.described_arms()
    described = {
        "experiment": plan.experiment.name,
        "says": _says(plan),
        "data": plan.data,
        "unit": plan.experiment.unit,
        "token": plan.experiment.token,
        **described_contrasts(plan, against),
        "arms": [_described(plan, arm) for arm in plan.arms] + beside,
        "runs": [config.name for config in plan.runs],
        "ceilings": plan.ceilings,
    }
    if against is not None:
        described["runs"] += against.runs()
        described["against"] = against.described()
    content = json.dumps(described, indent=2).encode()
    write_atomically(plan.out / COMPARISON, content, "comparison")


def _says(plan: Plan) -> str:
    """The experiment's own words, which are about its own data."""
    if (
        plan.runs[0].data.trained_on() == plan.experiment.base.data.trained_on()
        or plan.experiment.scores
    ):
        return plan.experiment.says
    return f"the arms of {plan.experiment.name} on other data"


def described_contrasts(plan: Plan, against: Against | None = None) -> dict[str, Any]:
    """Gather further pairs and interactions whose arms are all here, and the floor."""
    experiment, here = plan.experiment, {arm.name for arm in plan.arms}
    beside = [] if against is None else against.others
    here |= {each.name for each in beside}
    namesakes = [(each.arm.name, each.name) for each in beside if each.arm.name != each.name]
    if plan.runs[0].data != experiment.base.data:  # both are about that text alone
        experiment = dataclasses.replace(experiment, published={}, floor=None)
    return {
        "compared": [*(p for p in experiment.compared if here >= set(p)), *namesakes],
        "interactions": [
            [*pairs] for pairs in experiment.interactions if here >= {*pairs[0], *pairs[1]}
        ],
        "published": [[*pair, x] for pair, x in experiment.published.items() if here >= set(pair)],
        "floor": experiment.floor,
        "scores": dict(experiment.scores),
    }


def _described(plan: Plan, arm: Arm) -> dict[str, Any]:
    """An arm for the report, with the values it was run with."""
    config = next(config for config in plan.runs if config.arm == arm.name)
    values = plain(config)
    changes = [f"{name} = {values[name]}" for name in arm.changes]
    if arm.model is not None:
        shape = ["architecture", "layers", "width", "heads", "hidden"]
        control = plan.experiment.model(plan.experiment.arm(arm.control or arm.name))
        control = control or plan.experiment.base.model
        if isinstance(control, type(arm.model)) and control != arm.model:
            old, new = dataclasses.asdict(control), dataclasses.asdict(arm.model)
            shape = [name for name, *_ in differences(old, new)]
        said = [f"model.{name}" for name in shape if f"model.{name}" in values]
        changes += [f"{name} = {values[name]}" for name in said]
    if arm.learning_rate is not None and values["training.learning_rate"] == arm.learning_rate:
        changes.append(f"training.learning_rate = {arm.learning_rate} (found by --sweep lr)")
    described = {"name": arm.name, "says": arm.says, "control": arm.control}
    return described | {"changes": ", ".join(changes)}
