"""What a training step of each arm costs on the CPU: arms take turns, a few at once."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...files import write_atomically
from ..kit.config import RunConfig, config_hash
from ..kit.contents import read_held
from ..kit.folder import COSTS
from ..run.process import Child
from .plan import Plan

TOGETHER = 8  # arms at once, each a process with its data
SECONDS = 1.5  # of timed steps, an arm
FEWEST, MOST = 2, 21  # timed steps of an arm

Costs = dict[str, dict[str, float | int]]


def measure_costs(plan: Plan, show: Callable[[str], None]) -> None:
    """Write down the cost of each arm's training step on the CPU.

    Arms take turns, step by step, so that a change in the machine's load falls on all alike. No
    more than ``TOGETHER`` are held at once; the first arm is in every group, and times of a group
    are put in proportion by it. ``show`` is given a line for each group.
    """
    if are_measured(plan):
        return
    first_runs = _first_runs(plan)
    wanted = _hashes(plan)
    costs: Costs = {}
    for group in groups([arm.name for arm in plan.arms]):
        show(f"measuring time and memory, arms taking turns: {', '.join(group)}")
        jobs = {name: plan.job(first_runs[name]) for name in group}
        costs = joined(costs, _measured(jobs), anchor=group[0])
    for cost in costs.values():
        cost["tokens_per_second"] = cost.pop("tokens_per_step") / cost.pop("step_seconds")
    content = json.dumps({"hashes": wanted, "costs": costs}, indent=2).encode()
    write_atomically(plan.out / COSTS, content, "probe")


def are_measured(plan: Plan) -> bool:
    """Say whether the costs in the folder are those of the very same runs."""
    target = plan.out / COSTS
    return target.is_file() and read_held(target).get("hashes") == _hashes(plan)


def _first_runs(plan: Plan) -> dict[str, RunConfig]:
    return {config.arm: config for config in reversed(plan.runs)}


def _hashes(plan: Plan) -> dict[str, str]:
    first_runs = _first_runs(plan)
    return {arm.name: config_hash(first_runs[arm.name]) for arm in plan.arms}


def groups(names: Sequence[str]) -> Iterator[list[str]]:
    """Divide arms into groups of at most ``TOGETHER``, the first arm at the head of each."""
    anchor, *others = names
    for start in range(0, max(1, len(others)), TOGETHER - 1):
        yield [anchor, *others[start : start + TOGETHER - 1]]


def joined(before: Costs, more: Costs, *, anchor: str) -> Costs:
    """Add costs of another group, its times scaled so that the anchor's are the same in both."""
    if not before:
        return more
    scale = before[anchor]["step_seconds"] / more[anchor]["step_seconds"]
    scaled = {n: c | {"step_seconds": scale * c["step_seconds"]} for n, c in more.items()}
    return {**scaled, **before}


def _measured(jobs: dict[str, dict[str, Any]]) -> Costs:
    """Measure the arms of a group, each in a process of its own."""
    children: dict[str, Child] = {}
    try:
        for name, job in jobs.items():
            children[name] = Child("resonant.lab.run.cost")
            children[name].send(job)
        last = {name: _answer(child)["step_seconds"] for name, child in children.items()}
        turns = int(SECONDS * len(children) / max(sum(last.values()), 1e-9))
        seconds: dict[str, list[float]] = {name: [] for name in children}
        for _ in range(min(max(turns, FEWEST), MOST)):
            for name, child in children.items():
                child.send("go")
                seconds[name].append(_answer(child)["step_seconds"])
        costs = {}
        for name, child in children.items():
            child.send("finish")
            costs[name] = _answer(child) | {"step_seconds": statistics.median(seconds[name])}
        return costs
    finally:
        for child in children.values():
            child.close()


def _answer(child: Child) -> dict[str, Any]:
    message = child.receive()
    if message is None:
        raise RuntimeError(f"the probe of time and memory ended ({child.last_words()})")
    return message
