"""A comparison: train the planned runs on workers."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console

from ...errors import UserError
from ..domains import prepare_runs
from ..run.pool import Pool, RunState
from .display import Display
from .folders import is_done
from .plan import Plan


def train_all(plan: Plan, *, workers: int, console: Console) -> None:
    """Train what is not done yet; raises ``UserError`` or ``RuntimeError`` if a run failed."""
    states = [RunState(config, plan.directory(config)) for config in plan.runs]
    train_states(states, plan, workers=workers, console=console)
    raise_failure(states)


def train_states(states: Sequence[RunState], plan: Plan, *, workers: int, console: Console) -> None:
    """Train those that are not done yet where ``plan`` says; then each says how it ended."""
    for state in states:
        if is_done(state.directory, state.config):
            state.status, state.step = "kept", state.steps
    prepare_runs([s.config for s in states if s.status != "kept"], plan.data_dir)
    pool = Pool(states, workers, plan.data_dir, plan.devices)
    with Display(pool, console) as display:
        pool.run(display.show)


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


def default_workers(devices: Sequence[str]) -> int:
    """Count the cores that this process may use; of GPUs, one each."""
    if devices != ("cpu",):
        return len(devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
