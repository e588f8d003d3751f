"""The folders of a comparison: which runs they hold, and whose they are."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from ...errors import UserError
from ..domains import resolve
from ..kit.config import RunConfig, config_hash, differences, run_config
from ..kit.contents import read_config, read_held
from ..kit.folder import COMPARISON, CONFIG, DONE, LOCK, OWN
from .plan import Plan


def check_directories(plan: Plan, *, overwrite: bool, rates: Sequence[float] = ()) -> None:
    """Refuse folders that hold a run of another configuration, or empty them if told to.

    A learning rate among ``rates`` is no other configuration.
    """
    if (plan.out / OWN).is_file():
        raise UserError(
            f"{plan.out} holds a comparison of functions of one's own; choose another --out"
        )
    runs = [(config, plan.directory(config)) for config in plan.runs]
    check_folders(runs, overwrite=overwrite, rates=rates)


def refuse_comparison(plan: Plan) -> None:
    """Raise ``UserError`` if a single run would replace what a comparison says of itself."""
    path = plan.out / COMPARISON
    runs = read_held(path)["runs"] if path.is_file() else []
    if len(runs) > 1:
        raise UserError(
            f"{plan.out} holds a comparison of {len(runs)} runs, whose description a single run "
            "would replace; choose another --out, or use `resonant compare`"
        )


def check_folders(
    runs: Sequence[tuple[RunConfig, Path]], *, overwrite: bool, rates: Sequence[float] = ()
) -> None:
    """``check_directories`` for runs with their folders."""
    for config, directory in runs:
        if not (directory / CONFIG).is_file():
            continue
        old, new = filled(read_config(directory)), as_json(config)
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


def filled(values: dict[str, Any]) -> dict[str, Any]:
    """Fill in fields that were added since the configuration was written, at their defaults.

    As it is where it is no run of today.
    """
    try:
        return as_json(run_config(values, resolve))
    except (TypeError, ValueError):
        return values


def as_json(config: RunConfig) -> dict[str, Any]:
    """The configuration as it reads back from JSON: tuples are lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def is_done(directory: Path, config: RunConfig) -> bool:
    """Whether the run is finished and is of this very configuration."""
    done = read_done(directory)
    return done is not None and done.get("hash") == config_hash(config)


def read_done(directory: Path) -> dict[str, Any] | None:
    """What a finished run left, or None."""
    path = directory / DONE
    return read_held(path) if path.is_file() else None


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Make the folder and hold it: two comparisons in one folder would undo each other."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, where a folder is to be; check that the path is right")
    out.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(out / LOCK)
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
