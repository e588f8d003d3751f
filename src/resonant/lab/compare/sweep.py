"""A sweep of the learning rate: every arm at every rate under one seed, then each at its best."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ...errors import UserError
from ...files import fault, write_atomically
from ..kit.config import RunConfig
from ..kit.folder import SWEEP, SWEPT
from ..kit.grid import plain_console
from ..kit.results import Sweep
from .compare import raise_failure, train_runs
from .folders import check_directories, check_folders, is_done, read_done
from .plan import Plan

# Of the experiment's own rate, the same for every arm.
FACTORS = (0.5, 1.0, 2.0, 4.0)


def parse_rates(text: str | None, own: float) -> tuple[float, ...] | None:
    """``lr`` (the experiment's own rate times 1/2, 1, 2, 4) or ``lr=0.002,0.004``; None for None.

    Raises ``UserError`` for anything else.
    """
    if text is None:
        return None
    name, given, values = text.partition("=")
    try:
        rates = tuple(float(x) for x in values.split(",")) if given else ()
    except ValueError:
        rates = (0.0,)
    if name != "lr" or any(not 0.0 < rate < math.inf for rate in rates):
        raise UserError(
            f"--sweep takes lr, or lr with rates above 0 as in lr=0.002,0.004,0.008; not {text!r}"
        )
    return tuple(sorted(set(rates))) or tuple(own * factor for factor in FACTORS)


def swept_plan(
    plan: Plan,
    rates: tuple[float, ...],
    *,
    workers: int,
    overwrite: bool,
    console: Console | None = None,
) -> Plan:
    """Sweep, and return the plan with every arm at the best of ``rates``."""
    if not any(run.training.steps for run in plan.runs):
        raise UserError(
            "--sweep finds a rate to learn at, and --training.steps is 0; leave one out"
        )
    console = console or plain_console()
    tried = ", ".join(f"{rate:g}" for rate in rates)
    console.print(
        f"{plan.data}; learning rates {tried} for {len(plan.arms)} arms under seed "
        f"{plan.runs[0].seed}, in {plan.out}/{SWEPT}",
        highlight=False,
        soft_wrap=True,
    )
    # What would be refused in the end is refused before hours of training.
    check_directories(plan, overwrite=overwrite, rates=rates)
    sweep = run_sweep(plan, rates, workers=workers, overwrite=overwrite, console=console)
    for arm in plan.arms:
        edge = " (at the edge of those tried: a better one may lie beyond)"
        said = edge if sweep.at_edge(arm.name) else ""
        console.print(f"{arm.name}: {sweep.best(arm.name):g}{said}", highlight=False)
    plan = at_best(plan, sweep)
    check_directories(plan, overwrite=overwrite)
    write_sweep(sweep, plan.out)
    adopt(plan)
    return plan


def run_sweep(
    plan: Plan, rates: Sequence[float], *, workers: int, overwrite: bool, console: Console
) -> Sweep:
    """Train every arm of ``plan`` at every rate under its first seed.

    A run whose loss is no number counts as infinitely bad; any other failure is raised.
    """
    seed = plan.runs[0].seed
    first = {run.arm: run for run in plan.runs if run.seed == seed}
    runs = {(a, rate): _swept(plan, config, rate) for rate in rates for a, config in first.items()}
    check_folders(list(runs.values()), overwrite=overwrite)
    trained = train_runs(list(runs.values()), plan, workers=workers, console=console)
    raise_failure([state for state in trained if not state.diverged])
    states = dict(zip(runs, trained, strict=True))
    losses: dict[str, dict[float, float]] = {arm: {} for arm in first}
    for (arm, rate), state in states.items():
        done = None if state.diverged else read_done(state.directory)
        loss = math.inf if done is None else done["metrics"]["valid_loss"]
        losses[arm][rate] = loss if math.isfinite(loss) else math.inf
    sweep = Sweep(tuple(rates), seed, losses)
    for arm in first:
        if math.isinf(losses[arm][sweep.best(arm)]):
            raise UserError(
                f"{arm} diverged at every rate of the sweep; give lower ones: --sweep lr="
            )
    return sweep


def write_sweep(sweep: Sweep, directory: Path) -> None:
    """Write it down, for the report."""
    content = json.dumps(_as_json(sweep), indent=2).encode()
    write_atomically(directory / SWEEP, content, "sweep")


def at_best(plan: Plan, sweep: Sweep) -> Plan:
    """The plan with each arm at its best rate."""
    runs = tuple(_at(run, sweep.best(run.arm)) for run in plan.runs)
    return dataclasses.replace(plan, runs=runs)


def adopt(plan: Plan) -> None:
    """Take runs of the sweep that are runs of the plan as they are, instead of training again."""
    for config in plan.runs:
        target = plan.directory(config)
        _, source = _swept(plan, config, config.training.learning_rate)
        if is_done(source, config) and not is_done(target, config):
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial)
            shutil.rmtree(target, ignore_errors=True)
            fault("run-adopted")
            os.replace(partial, target)


def _swept(plan: Plan, config: RunConfig, rate: float) -> tuple[RunConfig, Path]:
    """A run of the sweep and its folder."""
    config = _at(config, rate)
    return config, plan.out / SWEPT / f"{config.arm}-lr{rate!r}-seed{config.seed}"


def _at(config: RunConfig, rate: float) -> RunConfig:
    training = dataclasses.replace(config.training, learning_rate=rate)
    return dataclasses.replace(config, training=training)


def _as_json(sweep: Sweep) -> dict[str, Any]:
    losses = {
        arm: {repr(rate): None if math.isinf(loss) else loss for rate, loss in by_rate.items()}
        for arm, by_rate in sweep.losses.items()
    }
    return {"rates": list(sweep.rates), "seed": sweep.seed, "losses": losses}
