"""A comparison: plan the runs, train them on workers, probe their cost, gather the results."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shutil
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import yaml
from rich.console import Console

from ..data.configs import DataConfig, trained_on
from ..data.sources import inspect
from ..errors import UserError, nearest
from ..experiments.experiment import MECHANISM, Arm, Experiment
from ..files import damaged, read_json, write_atomically
from .configs import RunConfig, config_hash, differences, flatten, plain
from .display import Display
from .fitting import check_pictures_fit
from .pool import Pool, RunState
from .preparation import prepare_runs
from .process import Child

PROBE_ROUNDS = 7
GATE = "model.attention.gate"
OUR_GATES = ("energy", "energy-leaking")
# Options that only say more about another one.
NEEDS = {
    "model.attention.standardize": ("model.attention.gate", "energy"),
    "model.position.locality": ("model.position.kind", "morlet-relative"),
    "model.position.max_length": ("model.position.kind", "learned"),
    "model.attention.score": ("model.attention.mechanism", "clock"),
    "model.attention.measure": ("model.attention.mechanism", "clock"),
    "model.attention.components": ("model.attention.mechanism", "gaussian-mixture"),
}
# Fields of training that say nothing where utterances are whole.
UNREAD = {
    "training.context": "; made-up data have their length from --data.length or --data.longest",
    "training.sample_tokens": "",
}


@dataclass(frozen=True)
class Plan:
    """What a comparison will do: every run with its folder, ordered so that seeds complete."""

    experiment: Experiment
    arms: tuple[Arm, ...]
    runs: tuple[RunConfig, ...]
    out: Path
    data_dir: Path | None
    data: str
    ceilings: dict[str, float]
    device: str = "cpu"

    def directory(self, config: RunConfig) -> Path:
        """The folder of one run."""
        return self.out / config.name


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

    Raises ``UserError`` for an unknown arm, data that cannot be had, and options that change no
    arm, make one the same as its control, or ask for more learned positions than there are.
    """
    _check_device(device)
    named = experiment.arms if arms is None else [experiment.arm(name) for name in arms]
    chosen = tuple(arm for arm in experiment.arms if arm in named)
    runs = tuple(experiment.config(base, arm, seed, overrides) for seed in seeds for arm in chosen)
    for run in runs:
        check_pictures_fit(run)
    known = {run.data: inspect(run.data, data_dir) for run in runs}
    runs = tuple(dataclasses.replace(run, corpus=known[run.data][0]) for run in runs)
    described = "; ".join(words for _, words in known.values())
    _check_options(chosen, runs[: len(chosen)], overrides)
    if base.plugins == experiment.base.plugins:
        _check_gate(overrides.get(GATE))
    # What the experiment demands holds for its own configuration, not for another budget or text.
    ceilings = {} if overrides else dict(experiment.ceilings)
    return Plan(experiment, chosen, runs, out, data_dir, described, ceilings, device)


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise UserError(f"--device is cpu, cuda or cuda:N with a number N; it is {device!r}")
    import torch  # only where a GPU is asked for: it takes seconds

    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise UserError(
            f"there is no {device} here: PyTorch sees {torch.cuda.device_count()} GPUs; leave out "
            "--device"
        )


def _check_gate(name: str | None) -> None:
    """Refuse an unknown gate before hours of other arms, where no plugin can bring it."""
    if name not in (None, *OUR_GATES):
        raise UserError(
            f"no gate is called {name!r}; {nearest(str(name), OUR_GATES)} (one of your own needs "
            "--plugins)"
        )


def _check_frames(by_arm: dict[str, dict[str, Any]], overrides: dict[str, Any]) -> None:
    """Options of models of frames that no arm reads, or that make arms belie their names."""
    if all("model.decoding" not in flat for flat in by_arm.values()):
        return
    if MECHANISM in overrides and len(by_arm) > 1:
        raise UserError(f"--{MECHANISM} is what these arms are about; choose arms with --arms")
    starts = any(
        flat[MECHANISM] == "gaussian-mixture"
        or (flat[MECHANISM] == "clock" and flat["model.decoding"] == "autoregressive")
        for flat in by_arm.values()
    )
    if "model.symbols_per_frame" in overrides and not starts:
        raise UserError(
            "--model.symbols_per_frame is read by mixtures and by autoregressive clocks only, "
            f"which none of these arms has: {', '.join(by_arm)}"
        )


def _check_options(
    arms: tuple[Arm, ...],
    runs: tuple[RunConfig, ...],
    overrides: dict[str, Any],
) -> None:
    texts = any(isinstance(run.data, DataConfig) for run in runs)
    for option, instead in UNREAD.items():
        if option in overrides and not texts:
            raise UserError(f"--{option} is about texts, which no arm here reads{instead}")
    if "data.name" in overrides and any("data.name" in arm.changes for arm in arms):
        raise UserError("--data.name is what these arms are about; choose arms with --arms")
    by_arm = {run.arm: plain(run) for run in runs}
    _check_frames(by_arm, overrides)
    for option, (field, wanted) in NEEDS.items():
        if option in overrides and all(flat.get(field) != wanted for flat in by_arm.values()):
            raise UserError(
                f"--{option} is read with {field} = {wanted} only, which none of these arms has: "
                f"{', '.join(by_arm)}"
            )
    for option, value in overrides.items():
        fields = flatten({option: value})
        if not any(flat.get(name) == v for flat in by_arm.values() for name, v in fields.items()):
            raise UserError(
                f"--{option} changes none of these arms: {', '.join(by_arm)}; it is what other "
                "arms are about (see `resonant list`), or use `resonant train`, which takes any "
                "field of its arm"
            )
    for first, second in itertools.combinations(arms, 2):
        if by_arm[first.name] | {"arm": ""} == by_arm[second.name] | {"arm": ""}:
            ours, theirs = (first, second) if second.name == first.control else (second, first)
            control = "its control " if theirs.name == ours.control else ""
            raise UserError(
                f"with these options {ours.name} is the same as {control}{theirs.name}; leave one "
                "out with --arms, or the option"
            )
    for run in runs:
        position, context = run.model.position, run.training.context
        if isinstance(position, str):
            continue
        if position.kind == "learned" and context > position.max_length:
            raise UserError(
                f"{run.arm} learns {position.max_length} positions, but training.context is "
                f"{context}; pass --model.position.max_length {context}"
            )


def check_directories(plan: Plan, *, overwrite: bool, rates: Sequence[float] = ()) -> None:
    """Refuse folders that hold a run of another configuration, or empty them if told to.

    A learning rate among ``rates`` is no other configuration.
    """
    runs = [(config, plan.directory(config)) for config in plan.runs]
    check_folders(runs, overwrite=overwrite, rates=rates)


def check_folders(
    runs: Sequence[tuple[RunConfig, Path]], *, overwrite: bool, rates: Sequence[float] = ()
) -> None:
    """``check_directories`` for runs with their folders."""
    for config, directory in runs:
        described = directory / "config.yaml"
        if not described.is_file():
            continue
        old = _read_config(described)
        new = json.loads(json.dumps(dataclasses.asdict(config)))
        changed = [
            (name, before, now)
            for name, before, now in differences(old, new)
            if not (name == "training.learning_rate" and before in rates)
        ]
        if changed and overwrite:
            shutil.rmtree(directory)
        elif changed:
            name, before, now = changed[0]
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise UserError(
                f"{directory} holds a run of another configuration ({name} was {before}, is "
                f"{now}{more}); choose another --out, or pass --overwrite to train it anew"
            )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise damaged(path) from error
    if not isinstance(values, dict):
        raise damaged(path)
    return values


def is_done(directory: Path, config: RunConfig) -> bool:
    """Whether ``done.json`` is there and is of this very configuration."""
    done = read_done(directory)
    return done is not None and done.get("hash") == config_hash(config)


def read_done(directory: Path) -> dict[str, Any] | None:
    """The content of ``done.json``, or None."""
    path = directory / "done.json"
    return read_json(path) if path.is_file() else None


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Make the folder and hold it: two comparisons in one folder would undo each other."""
    out.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(out / ".lock")
    try:
        held.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(
            f"another comparison is at work in {out}; wait for it, or choose another --out"
        ) from error
    try:
        yield
    finally:
        held.release()


def prepare(plan: Plan) -> None:
    """Write down what the comparison is."""
    described = {
        "experiment": plan.experiment.name,
        "says": _says(plan),
        "data": plan.data,
        "unit": plan.experiment.unit,
        "token": plan.experiment.token,
        **_contrasts(plan),
        "arms": [_described(plan, arm) for arm in plan.arms],
        "runs": [config.name for config in plan.runs],
        "ceilings": plan.ceilings,
    }
    content = json.dumps(described, indent=2).encode()
    write_atomically(plan.out / "comparison.json", content, "comparison")


def _says(plan: Plan) -> str:
    """The experiment's own words, which are about its own data."""
    if trained_on(plan.runs[0].data) == plan.experiment.base.data or plan.experiment.scores:
        return plan.experiment.says
    return f"the arms of {plan.experiment.name} on other data"


def _contrasts(plan: Plan) -> dict[str, Any]:
    """The experiment's further pairs and interactions whose arms are all here, and its floor."""
    experiment, here = plan.experiment, {arm.name for arm in plan.arms}
    if plan.runs[0].data != experiment.base.data:  # both are about that text alone
        experiment = dataclasses.replace(experiment, published={}, floor=None)
    return {
        "compared": [pair for pair in experiment.compared if here >= set(pair)],
        "interactions": [
            [*pairs] for pairs in experiment.interactions if here >= {*pairs[0], *pairs[1]}
        ],
        "published": [[*pair, x] for pair, x in experiment.published.items() if here >= set(pair)],
        "floor": experiment.floor,
        "scores": dict(experiment.scores),
    }


def _described(plan: Plan, arm: Arm) -> dict[str, Any]:
    """An arm for the report, with the values it was run with."""
    config = next(config for config in plan.runs if config.arm == arm.name)
    values = plain(config)
    changes = [f"{name} = {values[name]}" for name in arm.changes]
    if arm.model is not None:
        shape = ["architecture", "layers", "width", "heads", "hidden"]
        control = plan.experiment.model(plan.experiment.arm(arm.control or arm.name))
        control = control or plan.experiment.base.model
        if isinstance(control, type(arm.model)) and control != arm.model:
            old, new = dataclasses.asdict(control), dataclasses.asdict(arm.model)
            shape = [name for name, *_ in differences(old, new)]
        changes += [f"model.{name} = {values[f'model.{name}']}" for name in shape]
    if arm.learning_rate is not None and values["training.learning_rate"] == arm.learning_rate:
        changes.append(f"training.learning_rate = {arm.learning_rate} (found by --sweep lr)")
    described = {"name": arm.name, "says": arm.says, "control": arm.control}
    return described | {"changes": ", ".join(changes)}


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


def probe_all(plan: Plan) -> None:
    """Write ``probe.json``: cost of each arm's training step on the CPU, arms taking turns."""
    target = plan.out / "probe.json"
    first_runs = {config.arm: config for config in reversed(plan.runs)}
    wanted = {arm.name: config_hash(first_runs[arm.name]) for arm in plan.arms}
    if target.is_file() and read_json(target).get("hashes") == wanted:
        return
    children = {arm.name: Child("resonant.training.probe") for arm in plan.arms}
    try:
        for name, child in children.items():
            data_dir = None if plan.data_dir is None else str(plan.data_dir)
            child.send({"config": dataclasses.asdict(first_runs[name]), "data_dir": data_dir})
        for child in children.values():
            _answer(child)
        seconds: dict[str, list[float]] = {name: [] for name in children}
        for _ in range(PROBE_ROUNDS):
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
