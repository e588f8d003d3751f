"""`resonant compare`: train the arms of an experiment, then the table and the report."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..lab.compare.limits import MOST_SEEDS, MOST_WORKERS
from ..lab.kit.folder import COSTS, SWEEP
from .options import base_config, parse, pick_experiment, training_parser

MOST = {"seeds": MOST_SEEDS, "workers": MOST_WORKERS}

if TYPE_CHECKING:
    from ..lab.compare.against import Against
    from ..lab.compare.plan import Plan


def main(arguments: list[str]) -> int:
    """Compare; status 1 if an arm missed what the experiment demands of it, or a run failed."""
    if arguments and ":" in arguments[0] and not arguments[0].startswith("-"):
        from . import own

        return own.main(arguments)
    return _experiment(arguments)


def _experiment(arguments: list[str]) -> int:
    """Compare the arms of an experiment of ours, or of a plugin."""
    experiment, rest = pick_experiment("compare", arguments)
    parser = training_parser("compare", experiment)
    _add_options(parser, experiment.seeds)
    options, overrides = parse(parser, rest)
    _check_numbers(options)
    # After --help and most mistakes are dealt with: numpy, scipy and matplotlib take seconds.
    from ..lab.compare.against import read_against
    from ..lab.compare.compare import default_workers
    from ..lab.compare.folders import check_directories, lock
    from ..lab.compare.plan import in_processes, make_plan
    from ..lab.compare.sweep import parse_rates, swept_plan
    from ..lab.kit.archive import opened

    plan = make_plan(
        experiment,
        base_config(experiment, options),
        arms=None if options.arms is None else options.arms.split(","),
        seeds=range(options.seeds),
        out=Path(options.out or f"runs/{experiment.name}"),
        data_dir=None if options.data_dir is None else Path(options.data_dir),
        overrides=overrides,
        device=options.device,
    )
    plan = in_processes(plan, options.processes, options.replicas)
    if options.sweep is not None and "training.learning_rate" in overrides:
        raise UserError("--sweep lr finds the learning rate; leave out --training.learning_rate")
    if options.estimate is not None:
        return _estimate(plan, options.estimate)
    rates = parse_rates(options.sweep, experiment.base.training.learning_rate)
    with ExitStack() as stack:
        against = None
        if options.against is not None:
            directory = stack.enter_context(opened(options.against))
            against = read_against(directory, options.against, plan)
        stack.enter_context(lock(plan.out))
        workers = options.workers or default_workers(plan.devices, plan.processes)
        if rates is None:
            check_directories(plan, overwrite=options.overwrite)
            (plan.out / SWEEP).unlink(missing_ok=True)
        else:
            plan = swept_plan(plan, rates, workers=workers, overwrite=options.overwrite)
        return _run(plan, workers, against, probe=options.probe)


def _check_numbers(options: argparse.Namespace) -> None:
    for name, value in (("seeds", options.seeds), ("workers", options.workers)):
        if value is not None and not 1 <= value <= MOST[name]:
            raise UserError(f"--{name} must be at least 1, at most {MOST[name]}; it is {value}")
    if options.estimate is not None and options.against is not None:
        raise UserError(
            "--estimate counts what would be trained here, and --against adds finished runs alone; "
            "leave one of them out"
        )
    if options.estimate is not None and not options.estimate > 0:
        raise UserError(f"--estimate takes TFLOP/s above 0; it is {options.estimate}")


def _add_options(parser: argparse.ArgumentParser, seeds: int) -> None:
    parser.add_argument("--arms", help="names by comma; all if left out")
    parser.add_argument("--seeds", type=int, default=seeds, help="number of seeds")
    parser.add_argument(
        "--workers", type=int, help="processes, a thread each (all cores; of GPUs, one each)"
    )
    parser.add_argument(
        "--no-probe",
        dest="probe",
        action="store_false",
        help="do not measure time and memory of a training step after the runs",
    )
    parser.add_argument(
        "--sweep",
        metavar="lr[=RATES]",
        help="find each arm's learning rate first, by validation loss under one seed: lr tries "
        "1/2, 1, 2, 4 times the experiment's, lr=0.002,0.004 those",
    )
    parser.add_argument(
        "--against",
        type=Path,
        help="another comparison, its folder or `resonant pack`'s file: its arms stand beside "
        "these, as controls too; of the same data, seeds and budget",
    )
    parser.add_argument(
        "--estimate",
        type=float,
        metavar="TFLOPS",
        help="train nothing; print what it would cost at so many sustained TFLOP/s",
    )


def _estimate(plan: Plan, teraflops: float) -> int:
    """Print FLOPs and hours by arm."""
    from ..lab.compare.estimate import Estimate, estimate
    from ..lab.kit.grid import Grid, as_rich, table_console

    arms = estimate(plan)
    sums = [sum(getattr(arm, name) for arm in arms) for name in ("runs", "tokens", "flops")]
    rows = [
        [a.arm, str(a.runs), f"{a.tokens:.3g}", f"{a.flops:.3g}", _duration(a.hours(teraflops))]
        for a in (*arms, Estimate("all", int(sums[0]), *sums[1:]))
    ]
    columns = (
        "arm",
        "runs",
        f"{plan.experiment.token}s",
        "FLOPs",
        f"at {teraflops:g} TFLOP/s",
    )
    console = table_console()
    console.print(as_rich(Grid(columns, rows, "")))
    console.print(
        "Forward and backward of one step, counted as if the fused kernel skipped nothing (windows "
        "are bands), times steps and seeds; without evaluations and the runs of a sweep.",
        highlight=False,
    )
    return 0


def _duration(hours: float) -> str:
    """Hours, minutes or seconds, two digits."""
    if hours >= 1:
        return f"{hours:.3g} h"
    return f"{60 * hours:.2g} min" if hours * 60 >= 1 else f"{3600 * hours:.2g} s"


def _said(against: Against) -> list[str]:
    """Which arms of the other comparison stand beside ours, which are ours, which are not here."""
    by = {
        "beside": [each.name for each in against.others],
        "the very same as here, not trained again": [e.name for e in against.arms if e.same],
        "of other data or another budget, left out": list(against.left_out),
    }
    return [f"{against.name}: {', '.join(arms)} ({how})" for how, arms in by.items() if arms]


def _run(plan: Plan, workers: int, against: Against | None, *, probe: bool) -> int:
    """Train, measure, report."""
    from ..lab.compare.against import adopt_runs
    from ..lab.compare.compare import train_all
    from ..lab.compare.costs import are_measured, measure_costs
    from ..lab.compare.description import prepare
    from ..lab.kit.grid import plain_console
    from ..lab.kit.results import gather, missed_ceilings
    from ..lab.report.page import write_report
    from ..lab.report.sections import print_tables

    console = plain_console()
    if against is not None:
        adopt_runs(against, plan)
        for line in _said(against):
            console.print(line, highlight=False, soft_wrap=True)
    prepare(plan, against)
    console.print(
        f"{plan.data}; {len(plan.runs)} runs in {plan.out}", highlight=False, soft_wrap=True
    )
    train_all(plan, workers=workers, console=console)
    if probe and plan.devices == ("cpu",):
        measure_costs(plan, lambda line: console.print(line, highlight=False, soft_wrap=True))
    elif not are_measured(plan):
        (plan.out / COSTS).unlink(missing_ok=True)  # of other runs
    results = gather(plan.out)
    page = write_report(results, plan.out)
    print_tables(results, console)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    missed = missed_ceilings(results)
    for line in missed:
        console.print(f"FAILED: {line}", highlight=False, soft_wrap=True)
    return 1 if missed else 0
