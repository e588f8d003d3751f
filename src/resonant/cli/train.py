"""`resonant train`: one arm of an experiment under one seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, check_seed
from .options import base_config, parse, pick_experiment, training_parser

if TYPE_CHECKING:
    from ..lab.compare.plan import Plan


def main(arguments: list[str]) -> int:
    """Train and print the losses."""
    experiment, rest = pick_experiment("train", arguments)
    parser = training_parser("train", experiment)
    parser.add_argument("--arm", default=experiment.arms[0].name, help="which arm")
    parser.add_argument("--seed", type=int, default=0)
    said = "write the run's job.json for torchrun on a cluster, print the command, train nothing"
    parser.add_argument("--write-job", action="store_true", help=said)
    options, overrides = parse(parser, rest)
    check_seed(options.seed)
    from ..lab.compare.compare import train_all
    from ..lab.compare.description import prepare
    from ..lab.compare.folders import check_directories, lock, read_done, refuse_comparison
    from ..lab.compare.plan import in_processes, make_plan
    from ..lab.kit.grid import plain_console

    plan = make_plan(
        experiment.alone(options.arm),
        base_config(experiment, options),
        arms=[options.arm],
        seeds=[options.seed],
        out=Path(options.out or f"runs/{experiment.name}-train"),
        data_dir=None if options.data_dir is None else Path(options.data_dir),
        overrides=overrides,
        device=options.device,
    )
    plan = in_processes(plan, options.processes, options.replicas)
    console = plain_console()
    with lock(plan.out):
        refuse_comparison(plan)
        check_directories(plan, overwrite=options.overwrite)
        prepare(plan)
        if options.write_job:
            return _write_job(plan)
        train_all(plan, workers=1, console=console)
    directory = plan.directory(plan.runs[0])
    done = read_done(directory)
    assert done is not None
    for name in ("valid_loss", "test_loss"):
        value = done["metrics"][name]
        console.print(f"{name} {value:.4f} {experiment.unit}", highlight=False)
    console.print(f"model: {directory}", highlight=False, soft_wrap=True)
    return 0


def _write_job(plan: Plan) -> int:
    """Write what torchrun's processes read; print the command that starts them."""
    from ..lab.run.torchrun import write_job

    run = plan.runs[0]
    if plan.processes == 1:
        raise UserError("--write-job is for several processes; say how many by --processes")
    directory = plan.directory(run)
    path = write_job({**plan.job(run), "directory": str(directory), "device": plan.devices[0]})
    print(f"torchrun --nproc-per-node {plan.processes} -m resonant.lab.run.sharded {path}")
    return 0
