"""A comparison of one's own whose problem our loop trains: an experiment made of its arms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ...errors import UserError
from ...files import disk_error
from ..compare.compare import raise_failure, train_runs
from ..compare.costs import are_measured, measure_costs
from ..compare.description import prepare
from ..compare.display import Display
from ..compare.folders import check_directories, is_done
from ..compare.plan import Plan, make_plan
from ..compare.sweep import swept_plan
from ..domains import domain_of
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from ..kit.folder import COSTS, SWEEP
from ..kit.results import Results, gather
from ..problem.making import arm_config, build, carry, open_weights, problem_config, receive
from ..problem.problem import Problem
from ..report.page import write_report
from ..report.sections import print_tables
from ..run.loop import train
from ..run.pool import Pool, RunState
from .comparison import Comparison
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
        rates = tuple(float(rate) for rate in comparison.sweep[RATE])
        plan = swept_plan(plan, rates, workers=workers, overwrite=overwrite)
    else:
        check_directories(plan, overwrite=overwrite)
        (out / SWEEP).unlink(missing_ok=True)
    prepare(plan)
    console.print(f"{plan.data}; {len(plan.runs)} runs in {out}", soft_wrap=True)
    runs = [(config, plan.directory(config)) for config in plan.runs]
    if workers:
        raise_failure(train_runs(runs, plan, workers=workers, console=console))
    else:
        _train_here(plan, console)
    if probe:
        measure_costs(plan, lambda line: console.print(line, soft_wrap=True))
    elif not are_measured(plan):
        (out / COSTS).unlink(missing_ok=True)
    results = gather(out)
    if not console.quiet:
        print_tables(results, console)
    return _compared(comparison, plan, results)


def plan_problem(comparison: Comparison, out: Path) -> Plan:
    """The runs of a problem, of which each arm is a model of its own."""
    problem = comparison.train_and_score
    assert isinstance(problem, Problem)
    control = comparison.control_name
    values = {name: arm_config(value) for name, value in comparison.arms.items()}
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
        data=problem_config(problem),
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


def _train_here(plan: Plan, console: Console) -> None:
    """Train in this process, one run after the other, as a worker does."""
    receive(plan.carried)
    states = [RunState(plan.directory(run), {}, run.training.steps) for run in plan.runs]
    pool = Pool(states, 0)
    with Display(pool, console) as display, as_in_a_worker():
        for state, config in zip(states, plan.runs, strict=True):
            if is_done(state.directory, config):
                state.follow({"event": "done"})
                continue
            state.status = "running"
            try:
                train(config, state.directory, None, _reporter(state, display))
                state.follow({"event": "done"})
            except UserError as error:
                state.follow({"event": "failed", "message": str(error)})
            except OSError as error:
                state.follow({"event": "failed", "message": str(disk_error(error))})
            display.show()
    raise_failure(states)


def _reporter(state: RunState, display: Display) -> Any:
    def report(step: int, loss: float) -> None:
        state.follow({"event": "progress", "step": step, "loss": loss})
        display.show()

    return report


@contextmanager
def as_in_a_worker() -> Iterator[None]:
    """One thread and deterministic algorithms inside the block, so that numbers are the same."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    generator = torch.get_rng_state()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
        torch.set_rng_state(generator)


def _compared(comparison: Comparison, plan: Plan, results: Results) -> Compared:
    scores = {arm.name: {run["seed"]: run["metrics"] for run in arm.runs} for arm in results.arms}
    better = {"test_loss": "lower"} | dict(comparison.better)
    problem = comparison.train_and_score
    assert isinstance(problem, Problem)

    def open_model(arm: str, seed: int) -> Any:
        config = next(c for c in plan.runs if (c.arm, c.seed) == (arm, seed))
        model = build(problem, comparison.arms[arm], config)
        return open_weights(model, plan.directory(config))

    return Compared(
        plan.out,
        results.says,
        scores,
        comparison.control_name,
        comparison.seed_list,
        better,
        lambda _: write_report(results, plan.out),
        notes=[EACH, *results.mixed],
        open_model=open_model,
    )
