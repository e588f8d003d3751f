"""Make the runs of a comparison of one's own: on workers, or in this process."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ...errors import UserError
from ..compare.display import Display
from ..kit.code.sent import packed
from ..run.pool import Pool, RunState
from .comparison import Comparison, OwnRun, check_folder, configuration
from .run import score_job


def make_runs(
    comparison: Comparison, runs: Sequence[OwnRun], out: Path, *, workers: int, console: Console
) -> dict[str, str]:
    """Make what is not done yet; returns a sentence for every run that failed, by its folder."""
    # Functions may change the working directory.
    states = [RunState(out.absolute() / run.name, {}, None) for run in runs]
    for state, run in zip(states, runs, strict=True):
        if run.is_done(out):
            state.status = "kept"
    waiting = [
        (state, run) for state, run in zip(states, runs, strict=True) if state.status == "waiting"
    ]
    sent = _sent(comparison, [run for _, run in waiting])
    for state, run in waiting:
        state.job = {
            "packed": sent[run.arm, str(run.chosen)],
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
            for state, _ in waiting:
                _score_here(state, display)
    return {s.directory.name: s.failure for s in states if s.failure}


def clear_folders(runs: Sequence[OwnRun], out: Path, *, overwrite: bool) -> None:
    """Refuse folders of runs that stand on something else; with ``overwrite`` remove them."""
    for run in runs:
        try:
            check_folder(run, out)
        except UserError:
            if not overwrite:
                raise
            shutil.rmtree(out / run.name)


def _sent(comparison: Comparison, runs: Sequence[OwnRun]) -> dict[tuple[str, str], str]:
    """What runs are given, pickled once an arm and choice: of scripts and notebooks the code.

    Function, arm and configuration go together, so that an arm is what the function knows it as.
    """
    found: dict[tuple[str, str], str] = {}
    for run in runs:
        key = run.arm, str(run.chosen)
        if key not in found:
            config = configuration(comparison, run.chosen)
            made = (comparison.train_and_score, comparison.arms[run.arm], config)
            found[key] = packed(made, f"train_and_score, config or the arm {run.arm!r}")
    return found


def _score_here(state: RunState, display: Display) -> None:
    """Score one run in this process; it gets its arm as a worker would, fresh."""
    last = time.monotonic()

    def report(step: int, number: float) -> None:
        nonlocal last
        state.follow({"event": "progress", "step": step, "loss": number})
        if time.monotonic() - last > 0.25:
            last = time.monotonic()
            display.show()

    display.show()
    job = {**state.job, "directory": str(state.directory)}
    before = Path.cwd()
    try:
        state.attempt(lambda: score_job(job, report, here=True))
    finally:
        os.chdir(before)
    display.show()


def choose(
    comparison: Comparison,
    scores: Mapping[str, Mapping[str, float] | None],
    runs: Sequence[OwnRun],
    failed: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Choose each arm's best values by the validation score of its runs in the sweep.

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
            why = next((failed[r.name] for r in runs if r.arm == name and r.name in failed), "")
            raise UserError(
                f"the arm {name!r} fails with every value of the sweep ({why}); mend it, or give "
                "other values"
            )
    return {name: values for name, (_, values) in best.items()}
