"""`resonant compare`: train the arms of an experiment, then the table and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .options import base_config, parse, pick_experiment, training_parser

if TYPE_CHECKING:
    from ..training.compare import Plan


def main(arguments: list[str]) -> int:
    """Compare; status 1 if an arm missed what the experiment demands of it."""
    experiment, rest = pick_experiment(arguments)
    parser = training_parser("compare", experiment)
    parser.add_argument("--arms", help="names by comma; all if left out")
    parser.add_argument("--seeds", type=int, default=experiment.seeds, help="number of seeds")
    parser.add_argument("--workers", type=int, help="processes, a thread each (all cores)")
    options, overrides = parse(parser, rest)
    for name, value in (("seeds", options.seeds), ("workers", options.workers)):
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1; it is {value}")
    # After --help and most mistakes are dealt with: numpy, scipy and matplotlib take seconds.
    from ..training.compare import check_directories, default_workers, lock, make_plan

    plan = make_plan(
        experiment,
        base_config(experiment, options),
        arms=options.arms.split(",") if options.arms else None,
        seeds=range(options.seeds),
        out=Path(options.out or f"runs/{experiment.name}"),
        data_dir=None if options.data_dir is None else Path(options.data_dir),
        overrides=overrides,
    )
    with lock(plan.out):
        check_directories(plan, overwrite=options.overwrite)
        return _run(plan, options.workers or default_workers())


def _run(plan: Plan, workers: int) -> int:
    """Train, measure, report."""
    from rich.console import Console

    from ..report.page import write_report
    from ..report.results import gather, missed_ceilings
    from ..report.table import print_table
    from ..training.compare import prepare, probe_all, train_all

    prepare(plan)
    console = Console()
    console.print(
        f"{plan.data}; {len(plan.runs)} runs in {plan.out}", highlight=False, soft_wrap=True
    )
    train_all(plan, workers=workers, console=console)
    console.print("measuring time and memory, arms taking turns", highlight=False)
    probe_all(plan)
    results = gather(plan.out)
    page = write_report(results, plan.out)
    print_table(results, console)
    console.print(f"report: {page}", highlight=False, soft_wrap=True)
    missed = missed_ceilings(results)
    for line in missed:
        console.print(f"FAILED: {line}", highlight=False, soft_wrap=True)
    return 1 if missed else 0
