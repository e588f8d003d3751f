"""Run a comparison of one's own: of a function, or of a problem that our loop trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ...errors import UserError
from ..compare.compare import default_workers
from ..compare.folders import lock
from ..compare.limits import MOST_WORKERS
from ..kit.folder import COMPARISON as OF_THE_HOUSE
from ..kit.grid import plain_console
from ..problem.problem import Problem
from .comparison import Comparison, OwnRun, plan_runs, stand
from .folder import COMPARISON
from .reading import describe, read_compared, read_scores
from .results import Compared
from .running import choose, clear_folders, make_runs
from .training import compare_problem


def run_comparison(
    comparison: Comparison,
    out: Path,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    probe: bool = True,
    show: bool = True,
) -> Compared:
    """Make every run of the comparison that ``out`` lacks; print and return what was found.

    Raises ``UserError`` for a folder that holds something else, and if no run is finished.
    """
    count = default_workers(("cpu",)) if workers is None else workers
    if type(count) is not int or not 0 <= count <= MOST_WORKERS:
        raise UserError(f"workers are 0 to {MOST_WORKERS}; they are {count!r}")
    console = plain_console() if show else Console(quiet=True)
    own = isinstance(comparison.train_and_score, Problem)
    other = COMPARISON if own else OF_THE_HOUSE
    if (out / other).is_file():
        raise UserError(f"{out} holds another kind of comparison; choose another out")
    with lock(out):
        if own:
            return compare_problem(
                comparison, out, workers=count, overwrite=overwrite, probe=probe, console=console
            )
        return _compare_function(
            comparison, out, workers=count, overwrite=overwrite, console=console
        )


def _compare_function(
    comparison: Comparison, out: Path, *, workers: int, overwrite: bool, console: Console
) -> Compared:
    known = stand(comparison)
    chosen, swept = {name: {} for name in comparison.arms}, []
    if comparison.sweep:
        tried = {name: [*comparison.combinations()] for name in comparison.arms}
        runs = plan_runs(comparison, known, tried, comparison.seed_list[:1])
        clear_folders(runs, out, overwrite=overwrite)
        console.print(f"{len(runs)} runs choose by {comparison.choose_by}", soft_wrap=True)
        failed = make_runs(comparison, runs, out, workers=workers, console=console)
        scores = {run.name: _scores(run, out, failed) for run in runs}
        chosen = choose(comparison, scores, runs, failed)
        swept = [
            {"arm": run.arm, "values": dict(run.chosen), "score": _by(comparison, scores[run.name])}
            for run in runs
        ]
    each = {name: [values] for name, values in chosen.items()}
    runs = plan_runs(comparison, known, each, comparison.seed_list)
    clear_folders(runs, out, overwrite=overwrite)
    describe(comparison, runs, out, swept=swept, failed={})
    console.print(f"{len(runs)} runs in {out}", soft_wrap=True)
    failed = make_runs(comparison, runs, out, workers=workers, console=console)
    describe(comparison, runs, out, swept=swept, failed=failed)
    found = read_compared(out)
    if not console.quiet:
        console.print(str(found), soft_wrap=True)
    return found


def _scores(run: OwnRun, out: Path, failed: Sequence[str] | dict[str, str]) -> dict | None:
    done = None if run.name in failed else read_scores(out / run.name)
    return None if done is None else done["metrics"]


def _by(comparison: Comparison, scores: dict | None) -> float | None:
    return None if scores is None else scores.get(comparison.choose_by)
