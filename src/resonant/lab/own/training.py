"""A comparison of one's own whose problem our loop trains: an experiment made of its arms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ...errors import UserError
from ..compare.compare import train_runs
from ..compare.costs import are_measured, measure_costs
from ..compare.description import prepare
from ..compare.display import Display
from ..compare.folders import check_directories, is_done, read_done
from ..compare.plan import Plan, make_plan
from ..compare.sweep import swept_plan
from ..domains import domain_of
from ..kit.code.identity import home_of
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from ..kit.folder import COSTS, SWEEP
from ..kit.generators import kept_generators
from ..kit.results import Results, gather
from ..problem.making import arm_config, build, carry, open_weights, problem_config, receive
from ..problem.problem import Problem
from ..report.page import write_report
from ..report.sections import print_tables
from ..run.loop import train
from ..run.pool import Pool, RunState
from .comparison import Comparison, told
from .results import Compared

RATE = "learning_rate"  # the one name that a problem sweeps
EACH = "Losses and scores are means over batches; test_ and valid_ name the split."


def compare_problem(
    comparison: Comparison,
    out: Path,
    *,
    workers: int,
    overwrite: bool,
    probe: bool,
    console: Console,
) -> Compared:
    """Train every arm by our loop, measure, and return what was found."""
    plan = plan_problem(comparison, out)
    if comparison.sweep:
        if workers == 0:
            raise UserError("a problem's rates are swept on workers; workers is 0")
        rates = tuple(sorted({float(rate) for rate in comparison.sweep[RATE]}))
        plan = swept_plan(plan, rates, workers=workers, overwrite=overwrite, console=console)
    else:
        check_directories(plan, overwrite=overwrite)
        (out / SWEEP).unlink(missing_ok=True)
    prepare(plan)
    console.print(f"{plan.data}; {len(plan.runs)} runs in {out}", soft_wrap=True)
    runs = [(config, plan.directory(config)) for config in plan.runs]
    if workers:
        states = train_runs(runs, plan, workers=workers, console=console)
    else:
        states = _train_here(plan, console)
    failed = {state.directory.name: state.failure for state in states if state.failure}
    whole = _without(plan, failed)
    results = None
    if whole is not None:
        prepare(whole)
        if probe:
            measure_costs(whole, lambda line: console.print(line, soft_wrap=True))
        elif not are_measured(whole):
            (out / COSTS).unlink(missing_ok=True)
        results = gather(out)
    found = _compared(comparison, plan, results, failed)
    if not console.quiet:
        _print(found, results, console)
    return found


def _print(found: Compared, results: Results | None, console: Console) -> None:
    if results is None:
        console.print(str(found), soft_wrap=True)
        return
    print_tables(results, console)
    for said in found.sentences:
        console.print(said, highlight=False, soft_wrap=True)


def _without(plan: Plan, failed: Mapping[str, str]) -> Plan | None:
    """The plan of the arms whose runs are all there; None if the control is not among them."""
    lost = {config.arm for config in plan.runs if config.name in failed}
    if plan.arms[0].name in lost:
        return None
    return dataclasses.replace(
        plan,
        arms=tuple(arm for arm in plan.arms if arm.name not in lost),
        runs=tuple(config for config in plan.runs if config.arm not in lost),
    )


def plan_problem(comparison: Comparison, out: Path) -> Plan:
    """The runs of a problem, of which each arm is a model of its own."""
    problem = comparison.train_and_score
    assert isinstance(problem, Problem)
    control = comparison.control_name
    home = home_of(problem)
    values = {
        name: told(f"the arm {name!r}", value, lambda each: arm_config(each, home))
        for name, value in comparison.arms.items()
    }
    first = Arm(control, f"the arm {control}", model=values[control])
    others = [
        Arm(name, f"the arm {name}", control=control, model=value)
        for name, value in values.items()
        if name != control
    ]
    base = RunConfig(
        experiment=type(problem).__name__,  # not the folder's, which may be renamed
        arm=control,
        model=values[control],
        data=told(type(problem).__name__, problem, problem_config),
        training=problem.training,
    )
    says = comparison.says or f"arms on the problem {type(problem).__name__}"
    experiment = Experiment(
        base.experiment, says, base, (first, *others), unit=problem.unit, token=problem.token
    )
    _check_read(base)
    plan = make_plan(
        experiment,
        base,
        arms=None,
        seeds=comparison.seed_list,
        out=out,
        data_dir=None,
        overrides={},
    )
    return dataclasses.replace(plan, carried=carry(problem, comparison.arms))


def _check_read(config: RunConfig) -> None:
    """Raise ``UserError`` for a field of training that was set and that a problem does not read."""
    default = TrainingConfig()
    for name, instead in domain_of(config).unread.items():
        field = name.rpartition(".")[2]
        if getattr(config.training, field) != getattr(default, field):
            raise UserError(f"{name} is not read by a Problem{instead}; leave it out")


def _train_here(plan: Plan, console: Console) -> list[RunState]:
    """Train in this process, one run after the other, as a worker does."""
    receive(plan.carried)
    states = [RunState(plan.directory(run), {}, run.training.steps) for run in plan.runs]
    with Display(Pool(states, 0), console) as display, as_in_a_worker():
        for state, config in zip(states, plan.runs, strict=True):
            if is_done(state.directory, config):
                state.follow({"event": "done"})
            else:
                _attempt(config, state, display)
            display.show()
    return states


def _attempt(config: RunConfig, state: RunState, display: Display) -> None:
    report = _reporter(state, display)
    state.attempt(lambda: train(config, state.directory, None, report))


def _reporter(state: RunState, display: Display) -> Any:
    def report(step: int, loss: float) -> None:
        state.follow({"event": "progress", "step": step, "loss": loss})
        display.show()

    return report


@contextmanager
def as_in_a_worker() -> Iterator[None]:
    """One thread and deterministic algorithms inside the block, so that numbers are the same."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        with kept_generators():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


def _compared(
    comparison: Comparison, plan: Plan, results: Results | None, failed: Mapping[str, str]
) -> Compared:
    """What was found: scores of all finished runs, the page of the arms that are whole."""
    scores: dict[str, dict[int, dict[str, float]]] = {name: {} for name in comparison.arms}
    unseen: dict[str, str] = {}
    for config in plan.runs:
        done = None if config.name in failed else read_done(plan.directory(config))
        if done is not None:
            scores[config.arm][config.seed] = done["metrics"]
            unseen |= {config.arm: done["unseen"]} if "unseen" in done else {}
    if not any(scores.values()):
        said = "; ".join([*failed.values()][:3])
        raise UserError(
            f"no run in {plan.out} is finished; {said}; mend it and call the same again"
        )
    problem = comparison.train_and_score
    assert isinstance(problem, Problem)

    def open_model(arm: str, seed: int) -> Any:
        config = next(c for c in plan.runs if (c.arm, c.seed) == (arm, seed))
        model = build(problem, comparison.arms[arm], config)
        return open_weights(model, plan.directory(config))

    return Compared(
        plan.out,
        plan.experiment.says,
        scores,
        comparison.control_name,
        comparison.seed_list,
        {"test_loss": "lower"} | dict(comparison.better),
        lambda found: _write(found, results),
        failed,
        notes=[
            EACH,
            *(f"The attention of {arm} is not shown: {why}." for arm, why in unseen.items()),
            *([] if results is None else results.mixed),
        ],
        open_model=open_model,
    )


def _write(found: Compared, results: Results | None) -> Path:
    """Write the page; ``UserError`` where the control, with which it compares, is not whole."""
    if results is None:
        raise UserError(
            f"the page compares with {found.control}, of which runs failed; mend it and call the "
            "same again, or name another control"
        )
    return write_report(results, found.out)
