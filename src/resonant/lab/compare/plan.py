"""What a comparison will do: every run with its folder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..domains import describe, digest_of_base, domain_of, fit_to_data
from ..kit.config import RunConfig
from ..kit.experiment import Arm, Experiment
from ..kit.plugins import digest_of_plugins
from .options import check_names, check_options


@dataclass(frozen=True)
class Plan:
    """What a comparison will do: every run with its folder, ordered so that seeds complete.

    ``carried`` is sent along to workers, for the domain's ``receive``. A run is trained by
    ``processes``, in ``replicas`` groups that each hold all of its weights.
    """

    experiment: Experiment
    arms: tuple[Arm, ...]
    runs: tuple[RunConfig, ...]
    out: Path
    data_dir: Path | None
    data: str
    ceilings: dict[str, float]
    devices: tuple[str, ...] = ("cpu",)
    carried: str = ""
    processes: int = 1
    replicas: int = 1

    def directory(self, config: RunConfig) -> Path:
        """The folder of one run."""
        return self.out / config.name

    def job(self, config: RunConfig) -> dict[str, Any]:
        """What a process that builds the run's task is sent, as JSON."""
        data_dir = None if self.data_dir is None else str(self.data_dir)
        said = {"config": dataclasses.asdict(config), "data_dir": data_dir}
        said |= {"carried": self.carried} if self.carried else {}
        if self.processes > 1:
            said |= {"processes": self.processes, "replicas": self.replicas}
        return said


def make_plan(
    experiment: Experiment,
    base: RunConfig,
    *,
    arms: Sequence[str] | None,
    seeds: Sequence[int],
    out: Path,
    data_dir: Path | None,
    overrides: dict[str, Any],
    device: str = "cpu",
) -> Plan:
    """Resolve arms and seeds into runs, to be trained on ``device``, which is no part of them.

    A ``device`` "cuda" is every GPU there is.

    Raises ``UserError`` for an unknown arm, data that cannot be had, and options that change no
    arm, make one the same as its control, or sizes that do not fit the data.
    """
    devices = _devices(device)
    named = experiment.arms if arms is None else [experiment.arm(name) for name in arms]
    chosen = tuple(arm for arm in experiment.arms if arm in named)
    runs = tuple(experiment.config(base, arm, seed, overrides) for seed in seeds for arm in chosen)
    fitted = {run.arm: fit_to_data(run, data_dir, overrides) for run in runs[: len(chosen)]}
    runs = tuple(
        dataclasses.replace(run, data=fitted[run.arm].data, model=fitted[run.arm].model)
        for run in runs
    )
    for run in runs:
        domain_of(run).check(run)
    # Once each: a text may be large.
    known = {data: describe(data, data_dir) for data in dict.fromkeys(run.data for run in runs)}
    sources = digest_of_plugins(base.plugins)
    bases = {run.arm: digest_of_base(run) for run in runs[: len(chosen)]}
    runs = tuple(
        dataclasses.replace(
            run, corpus=known[run.data].digest, sources=sources, base=bases[run.arm]
        )
        for run in runs
    )
    described = "; ".join(each.words for each in known.values())
    check_options(chosen, runs[: len(chosen)], overrides)
    if base.plugins == experiment.base.plugins:
        check_names(experiment, runs, overrides)
    # What the experiment demands holds for its own configuration, not for another budget or text.
    ceilings = {} if overrides else dict(experiment.ceilings)
    return Plan(experiment, chosen, runs, out, data_dir, described, ceilings, devices)


def in_processes(plan: Plan, processes: int, replicas: int) -> Plan:
    """Give each run of ``plan`` so many processes, in so many replicas.

    Raises ``UserError`` for numbers that do not divide, and data whose batches cannot be cut.
    """
    for name, count in (("processes", processes), ("replicas", replicas)):
        if count < 1:
            raise UserError(f"--{name} must be at least 1; it is {count}")
    if processes % replicas:
        raise UserError(
            f"--replicas divide --processes; {replicas} do not divide {processes}: choose others"
        )
    devices = plan.devices
    if processes > 1 and devices != ("cpu",):
        if len(devices) < processes:
            raise UserError(
                f"--processes {processes} take a GPU each, and --device gives {len(devices)}; "
                "start fewer, or on more nodes by --write-job"
            )
        devices = ("cuda",)  # a process takes the one of its rank
    for run in plan.runs if processes > 1 else ():
        training = run.training
        why = domain_of(run).unread.get("training.accumulate")
        if why is not None:
            raise UserError(
                f"--processes cannot share a batch of {run.data.name}{why}; leave --processes out"
            )
        if training.batch_size % (processes * training.accumulate):
            raise UserError(
                f"training.batch_size {training.batch_size} is not cut into {processes} processes "
                f"x {training.accumulate} parts of one size; choose another --training.batch_size"
            )
    return dataclasses.replace(plan, processes=processes, replicas=replicas, devices=devices)


def _devices(device: str) -> tuple[str, ...]:
    """List the devices that workers share: the CPU, one GPU by its number, or all of them."""
    if device == "cpu":
        return (device,)
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise UserError(f"--device is cpu, cuda or cuda:N with a number N; it is {device!r}")
    import torch  # only where a GPU is asked for: it takes seconds

    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise UserError(f"there is no {device} here: PyTorch sees {count} GPUs; leave out --device")
    return (device,) if ":" in device else tuple(f"cuda:{index}" for index in range(count))
