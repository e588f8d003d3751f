"""A comparison: train the planned runs on workers, then measure what a step costs."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from ...errors import UserError
from ...files import write_atomically
from ..domains import prepare_runs
from ..kit.config import config_hash
from ..kit.contents import read_held
from ..kit.folder import COSTS
from ..run.pool import Pool, RunState
from ..run.process import Child
from .display import Display
from .folders import is_done
from .plan import Plan

ROUNDS = 7  # of measuring, arms taking turns


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
    pool = Pool(states, workers, plan.data_dir, plan.device)
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


def measure_costs(plan: Plan) -> None:
    """Write down the cost of each arm's training step on the CPU, arms taking turns."""
    target = plan.out / COSTS
    first_runs = {config.arm: config for config in reversed(plan.runs)}
    wanted = {arm.name: config_hash(first_runs[arm.name]) for arm in plan.arms}
    if target.is_file() and read_held(target).get("hashes") == wanted:
        return
    children = {arm.name: Child("resonant.lab.run.cost") for arm in plan.arms}
    try:
        for name, child in children.items():
            data_dir = None if plan.data_dir is None else str(plan.data_dir)
            child.send({"config": dataclasses.asdict(first_runs[name]), "data_dir": data_dir})
        for child in children.values():
            _answer(child)
        seconds: dict[str, list[float]] = {name: [] for name in children}
        for _ in range(ROUNDS):
            for name, child in children.items():
                child.send("go")
                seconds[name].append(_answer(child)["step_seconds"])
        costs = {}
        for name, child in children.items():
            child.send("finish")
            answer = _answer(child)
            tokens = answer.pop("tokens_per_step")
            step = statistics.median(seconds[name])
            costs[name] = answer | {"tokens_per_second": tokens / step}
    finally:
        for child in children.values():
            child.close()
    content = json.dumps({"hashes": wanted, "costs": costs}, indent=2).encode()
    write_atomically(target, content, "probe")


def _answer(child: Child) -> dict[str, Any]:
    message = child.receive()
    if message is None:
        raise RuntimeError(f"the probe of time and memory ended ({child.last_words()})")
    return message


def default_workers() -> int:
    """As many as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
