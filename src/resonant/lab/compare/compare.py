"""A comparison: train the planned runs on workers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ...errors import UserError
from ..domains import prepare_runs
from ..kit.config import RunConfig
from ..run.pool import Pool, RunState
from .display import Display
from .folders import is_done
from .plan import Plan


def train_all(plan: Plan, *, workers: int, console: Console) -> None:
    """Train what is not done yet; raises ``UserError`` or ``RuntimeError`` if a run failed."""
    runs = [(config, plan.directory(config)) for config in plan.runs]
    raise_failure(train_runs(runs, plan, workers=workers, console=console))


def train_runs(
    runs: Sequence[tuple[RunConfig, Path]], plan: Plan, *, workers: int, console: Console
) -> list[RunState]:
    """Train those that are not done yet, each in its folder; returns how each ended."""
    states = []
    for config, directory in runs:
        state = RunState(directory, plan.job(config), config.training.steps)
        if is_done(directory, config):
            state.status, state.step = "kept", config.training.steps
        states.append(state)
    waiting = [run for (run, _), each in zip(runs, states, strict=True) if each.status != "kept"]
    prepare_runs(waiting, plan.data_dir)
    pool = Pool(states, workers, devices=plan.devices)
    with Display(pool, console) as display:
        pool.run(display.show)
    return states


def raise_failure(states: Sequence[RunState]) -> None:
    """Raise ``UserError`` or ``RuntimeError`` if a run failed."""
    failed = [state for state in states if state.status == "failed"]
    if failed:
        first = failed[0]
        more = f" ({len(failed)} runs failed)" if len(failed) > 1 else ""
        text = f"{first.directory.name} failed{more}: {first.message}"
        if first.internal:
            raise RuntimeError(f"{text}\nRun the same command again: what is finished is kept.")
        raise UserError(text)


def default_workers(devices: Sequence[str], processes: int = 1) -> int:
    """Count the workers that cores, or GPUs, are enough for, of so many ``processes`` a run."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    if devices != ("cpu",):
        count = len(devices)
    return max(1, count // processes)
