"""`resonant.compare`: compare anything of one's own under several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError

if TYPE_CHECKING:
    from ..problem.problem import Problem
    from .comparison import Comparison
    from .results import Compared


def compare(
    arms: Mapping[str, Any],
    train_and_score: Callable[..., Any] | Problem,
    *,
    control: str = "",
    seeds: int | Sequence[int] = 3,
    out: str | Path = "runs/own",
    better: Mapping[str, str] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    choose_by: str | None = None,
    config: Any = None,
    says: str = "",
    workers: int | None = None,
    overwrite: bool = False,
    probe: bool = True,
    show: bool = True,
) -> Compared:
    """Train and score every arm under every seed, and say which is better and by how much.

    ``train_and_score(arm, seed, run)`` returns scores by name, ``{"mse": 0.1}``; whatever framework
    trains. ``run`` is a `Run`: ``run.log(step, mse=...)`` for curves, ``run.checkpoint(state)`` and
    ``run.resume()`` for runs that survive being killed, ``run.config``, ``run.folder``. Differences
    are paired by seed: ``mean(arm - control) ± t(0.975, n - 1) sd / sqrt(n)``.

    A run is made once: the same call goes on where it was stopped. It stands on the function's
    code and what that reads, its arm, the configuration and the seed; where one of those changed,
    its folder is refused (``overwrite=True`` makes it anew).

    Args:
        arms: by name, any values; ``train_and_score`` is given them
        train_and_score: the function; or a `Problem`, which our loop trains
        control: the arm that the others are compared with (the first)
        seeds: how many, or which
        out: folder of the runs and the page
        better: "lower" or "higher", by score
        sweep: values to try under the first seed, in ``run.config``; each arm is then run with its
            own best. Of a `Problem`: ``{"learning_rate": [...]}``
        choose_by: the validation score by which values are chosen
        config: an instance of a dataclass of your own, as ``run.config``
        says: what is compared, in a few words
        workers: processes with a thread each (one a core). What is importable is imported there;
            what a script or a notebook defines is sent by cloudpickle. 0: in this process
        overwrite: make runs of another configuration anew
        probe: of a `Problem`: measure time and memory of a training step after the runs
        show: print progress and the table

    A run that raises, or whose scores are no finite numbers, is named under the table; the others
    are compared, by the seeds that both have.

    Raises ``UserError`` for what cannot be compared, and if no run is finished.
    """
    record, run = _laboratory()
    comparison = record(
        arms,
        train_and_score,
        control=control,
        seeds=seeds,
        better=better or {},
        sweep=sweep,
        choose_by=choose_by,
        config=config,
        says=says,
    )
    how = {"overwrite": overwrite, "probe": probe, "show": show}
    return run(comparison, Path(out), workers=workers, **how)


def _laboratory() -> tuple[type[Comparison], Callable[..., Compared]]:
    """What compares, which needs the packages of the extra "lab"."""
    try:
        from .comparison import Comparison
        from .door import run_comparison
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise UserError(
            f"resonant.compare needs the package {package}, which is not installed; "
            "pip install 'resonant[lab]'"
        ) from error
    return Comparison, run_comparison
