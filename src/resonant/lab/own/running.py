"""Make the runs of a comparison of one's own: on workers, or in this process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ...errors import UserError
from ...files import disk_error
from ..compare.display import Display
from ..kit.identity import packed, unpacked
from ..run.pool import Pool, RunState
from .comparison import Comparison, OwnRun, check_folder, configuration
from .run import Run, score


def make_runs(
    comparison: Comparison, runs: Sequence[OwnRun], out: Path, *, workers: int, console: Console
) -> dict[str, str]:
    """Make what is not done yet; returns a sentence for every run that failed, by its folder."""
    states = [RunState(out / run.name, {}, None) for run in runs]
    for state, run in zip(states, runs, strict=True):
        if run.is_done(out):
            state.status = "kept"
    waiting = [
        (state, run) for state, run in zip(states, runs, strict=True) if state.status == "waiting"
    ]
    if workers:
        sent = _sent(comparison, [run for _, run in waiting])
        for state, run in waiting:
            state.job = sent[run.arm, str(run.chosen)] | {
                "arm": run.arm,
                "seed": run.seed,
                "hash": run.hash,
                "stands_on": run.stands_on,
            }
    pool = Pool(states, workers, "resonant.lab.own.worker")
    with Display(pool, console) as display:
        if workers:
            pool.run(display.show)
        else:
            for state, run in waiting:
                _score_here(comparison, state, run, display)
    return {s.directory.name: s.message for s in states if s.status == "failed"}


def clear_folders(runs: Sequence[OwnRun], out: Path, *, overwrite: bool) -> None:
    """Refuse folders of runs that stand on something else; with ``overwrite`` remove them."""
    for run in runs:
        try:
            check_folder(run, out)
        except UserError:
            if not overwrite:
                raise
            shutil.rmtree(out / run.name)


def _sent(comparison: Comparison, runs: Sequence[OwnRun]) -> dict[tuple[str, str], dict[str, Any]]:
    """What workers are sent, pickled once an arm and choice: of scripts and notebooks the code."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        key = run.arm, str(run.chosen)
        if key not in found:
            config = configuration(comparison, run.chosen)
            made = (comparison.train_and_score, comparison.arms[run.arm], config)
            text = packed(made, f"train_and_score, config or the arm {run.arm!r}")
            found[key] = {"packed": text}
    return found


def _score_here(comparison: Comparison, state: RunState, run: OwnRun, display: Display) -> None:
    """Score one run in this process; it gets its arm as a worker would, fresh."""
    last = time.monotonic()

    def report(step: int, number: float) -> None:
        nonlocal last
        state.follow({"event": "progress", "step": step, "loss": number})
        if time.monotonic() - last > 0.25:
            last = time.monotonic()
            display.show()

    state.status = "running"
    display.show()
    # As a worker would: together, so that an arm is what the function knows it as, and fresh, as an
    # arm or a function may be changed in place.
    sent = _sent(comparison, [run])[run.arm, str(run.chosen)]
    function, value, config = unpacked(sent["packed"])
    made = Run(
        state.directory, arm=run.arm, seed=run.seed, config=config, known=run.hash, report=report
    )
    try:
        score(function, value, made, run.stands_on, here=True)
        state.follow({"event": "done"})
    except UserError as error:
        state.follow({"event": "failed", "message": str(error)})
    except OSError as error:
        state.follow({"event": "failed", "message": str(disk_error(error))})
    display.show()


def choose(
    comparison: Comparison, scores: Mapping[str, Mapping[str, float] | None], runs: Sequence[OwnRun]
) -> dict[str, dict[str, Any]]:
    """The best values of each arm by the validation score of its runs in the sweep.

    Raises ``UserError`` for an arm without one, or a score that no run has.
    """
    by = comparison.choose_by or ""
    sign = 1.0 if comparison.better[by] == "lower" else -1.0
    best: dict[str, tuple[float, dict[str, Any]]] = {}
    for run in runs:
        found = scores[run.name]
        if found is None:
            continue
        if by not in found:
            raise UserError(
                f"{run.name} returns no {by!r}, by which values are chosen; it returns "
                f"{', '.join(found)}"
            )
        if run.arm not in best or sign * found[by] < best[run.arm][0]:
            best[run.arm] = sign * found[by], dict(run.chosen)
    for name in comparison.arms:
        if name not in best:
            raise UserError(f"the arm {name!r} fails with every value of the sweep; give others")
    return {name: values for name, (_, values) in best.items()}
