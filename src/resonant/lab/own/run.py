"""One run of a function that trains and scores: its log, its checkpoints, its scores."""

from __future__ import annotations

import io
import json
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, SupportsInt

import filelock
import numpy as np
import torch

from ...errors import UserError, in_words
from ...files import damaged, fault, sealed, strict_json, unsealed, write_atomically
from ..kit.code.sent import unpacked
from ..kit.folder import CHECKPOINT, LOCK
from ..kit.generators import (
    generator_states,
    kept_generators,
    restore_generators,
    seed_generators,
)
from ..kit.machine import with_this_machine
from ..kit.optimizer import Report
from .folder import LOG, RUN, SCORES, TRACEBACK

LOCK_SECONDS = 60.0
LARGEST = 1e100  # whose square a float still holds
CHECKPOINTED = {"known", "state", "log", "random", "made_with"}
ARRAY = "resonant: an array of numpy"  # marks one in a checkpoint, which holds tensors alone
PLAIN = (type(None), bool, int, float, str, bytes)
KEPT = "numbers, strings, tensors, arrays, and lists, tuples and dicts of those"


class Run:
    """One run, as a function that trains and scores is given it.

    Attributes:
        arm: name of the arm
        seed: of this run; the global generators of Python, numpy and torch start from it
        config: the comparison's configuration; of a sweep with this run's values in it
        folder: of this run, for files of your own
    """

    def __init__(
        self, folder: Path, *, arm: str, seed: int, config: Any, known: str, report: Report
    ) -> None:
        self.folder, self.arm, self.seed, self.config = folder, arm, seed, config
        self.made_with = with_this_machine([])
        self.known, self._report, self._log = known, report, None

    def log(self, step: SupportsInt, /, **numbers: Any) -> None:
        """Add numbers of a step to the curves on the page; the first one is shown meanwhile.

        What is no finite number, or beyond 1e100, leaves a gap. Raises ``ValueError`` for what is
        no number, and for a number called step.
        """
        if "step" in numbers:
            raise ValueError("run.log(step, name=number) takes the step first; call it otherwise")
        row: dict[str, Any] = {"step": int(step)}
        for name, value in numbers.items():
            number = as_number(value, f"run.log({step}, {name}=...)")
            row[name] = number if abs(number) <= LARGEST else None
        file = self._opened(keep=0)
        file.write(json.dumps(row) + "\n")
        file.flush()
        fault("logged")
        first = next((x for n, x in row.items() if n != "step" and x is not None), None)
        self._report(int(step), math.nan if first is None else first)

    def checkpoint(self, state: Any) -> None:
        """Keep ``state``, the log so far and the generators of random numbers, for ``resume``.

        ``state`` is made of numbers, strings, tensors, arrays, and lists, tuples and dicts of
        those, as a ``state_dict()`` is. A kill at any moment leaves the last checkpoint whole.

        Raises ``ValueError`` for anything else in it.
        """
        file = self._opened(keep=0)
        os.fsync(file.fileno())
        kept = {
            "known": self.known,
            "state": _encoded(state, "state"),
            "log": file.tell(),
            "random": generator_states(),
            "made_with": self.made_with,
        }
        buffer = io.BytesIO()
        torch.save(kept, buffer)
        write_atomically(self.folder / CHECKPOINT, sealed(buffer.getvalue()), "checkpoint")
        fault("checkpoint-written")

    def resume(self) -> Any:
        """Return the state last kept, or None; the log and the generators are as they were then.

        Call it before ``log``. Tensors are on the CPU.

        Raises ``ValueError`` after ``log``, ``UserError`` for a damaged checkpoint.
        """
        if self._log is not None:
            raise ValueError("call run.resume() before run.log and run.checkpoint")
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return None
        kept = torch.load(io.BytesIO(unsealed(path)), "cpu", weights_only=True)
        if not isinstance(kept, Mapping) or not kept.keys() >= CHECKPOINTED:
            raise damaged(path, "it is no checkpoint of a function of one's own")
        if kept["known"] != self.known:  # left by a run of another configuration
            return None
        self.made_with = with_this_machine(kept["made_with"])
        self._opened(keep=kept["log"])
        restore_generators(kept["random"])
        return _decoded(kept["state"])

    def leave(self) -> None:
        """Close the log as it is."""
        if self._log is not None:
            self._log.close()

    def close(self) -> None:
        """Close the log; one that was never written is emptied."""
        self._opened(keep=0).close()

    def _opened(self, *, keep: int) -> Any:
        """The log, whose first ``keep`` bytes stay when it is opened."""
        if self._log is None:
            path = self.folder / LOG
            if keep and (not path.is_file() or path.stat().st_size < keep):
                raise damaged(path, "rows that the checkpoint vouches for are lost")
            self._log = path.open("a")
            self._log.truncate(keep)
            self._log.seek(0, os.SEEK_END)
        return self._log


def score_job(job: Mapping[str, Any], report: Report, *, here: bool = False) -> None:
    """Score the run that a job describes: what ``packed`` made, and which run it is for.

    Raises ``UserError`` as ``score`` does.
    """
    function, value, config = unpacked(job["packed"])
    run = Run(
        Path(job["directory"]),
        arm=job["arm"],
        seed=job["seed"],
        config=config,
        known=job["hash"],
        report=report,
    )
    score(function, value, run, job["stands_on"], here=here)


def score(
    train_and_score: Callable[[Any, int, Run], Any],
    value: Any,
    run: Run,
    stands_on: Mapping[str, Any],
    *,
    here: bool = False,
) -> None:
    """Call the function for one arm and seed in the run's folder until its scores are there.

    ``here``: in the process that compares, which the table says.

    Raises ``UserError`` for a function that raises, and for scores that are no finite numbers.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(run.folder / LOCK, timeout=LOCK_SECONDS), kept_generators():
        seed_generators(run.seed)
        said = {"arm": run.arm, "seed": run.seed, "stands_on": dict(stands_on)}
        write_atomically(run.folder / RUN, json.dumps(said, indent=2).encode(), "config")
        started = time.perf_counter()
        try:
            metrics = checked(_called(train_and_score, value, run), run.folder.name)
        except UserError:
            run.leave()
            raise
        done = {
            "hash": run.known,
            "arm": run.arm,
            "seed": run.seed,
            "metrics": metrics,
            "seconds": time.perf_counter() - started,
            "here": here,
            "made_with": run.made_with,
        }
        run.close()
        write_atomically(run.folder / SCORES, json.dumps(done, indent=2).encode(), "done")
        fault("done-written")


def _called(function: Callable[[Any, int, Run], Any], value: Any, run: Run) -> Any:
    where = run.folder / TRACEBACK
    where.unlink(missing_ok=True)
    try:
        return function(value, run.seed, run)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a function of one's own may raise anything
        where.write_text(traceback.format_exc())
        said = in_words(error) if isinstance(error, Exception) else "SystemExit"
        raise UserError(f"{run.folder.name} raises {said}; the traceback is in {where}") from error


def checked(returned: Any, name: str) -> dict[str, float]:
    """The scores that a function returned, as floats by name.

    Raises ``UserError`` for anything else, and for a number that is not finite.
    """
    if not isinstance(returned, Mapping) or not returned:
        raise UserError(
            f"{name} returns {_short(returned)}; train_and_score returns scores by name, such as "
            '{"mse": 0.1}'
        )
    found = {}
    for key, value in returned.items():
        if not isinstance(key, str) or not key:
            raise UserError(f"{name} returns a score named {key!r}; names are strings")
        try:
            found[key] = as_number(value, key)
        except ValueError as error:
            raise UserError(f"{name} returns {error}") from error
        if not abs(found[key]) <= LARGEST:  # NaN is not
            raise UserError(
                f"{name} returns {key} = {found[key]}, which no mean or interval can hold; lower "
                "its learning rate or mend it: the run is made again by the same call"
            )
    return found


def as_number(value: Any, name: str) -> float:
    """A number of Python, numpy or torch as a float; ``ValueError`` for anything else."""
    if isinstance(value, (str, bytes)) or value is None:
        raise ValueError(f"{name} = {_short(value)}, which is no number")
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} = {_short(value)}, which is no number of a float") from error


def _short(value: Any) -> str:
    huge = type(value) is int and abs(value) > LARGEST  # whose digits Python may refuse to write
    said = f"an int of {value.bit_length()} bits" if huge else " ".join(repr(value).split())
    return said if len(said) <= 60 else f"{said[:60]} ..."


def _encoded(value: Any, name: str) -> Any:
    """A state as ``torch.load`` reads it without running code; ``ValueError`` for what is none."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"a checkpoint holds whole numbers of 64 bits; {name} is {_short(value)}")
    if type(value) in (*PLAIN, torch.Tensor):
        return value
    if isinstance(value, torch.Tensor):  # a parameter
        return value.detach()
    if isinstance(value, np.generic) and type(value.item()) in PLAIN:
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {ARRAY: torch.from_numpy(value.copy())}
    if isinstance(value, Mapping):
        return {
            key if type(key) in (int, str) else _refuse(key, name): _encoded(x, f"{name}[{key!r}]")
            for key, x in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type_of(value)(_encoded(x, f"{name}[{i}]") for i, x in enumerate(value))
    return _refuse(value, name)


def type_of(value: Any) -> type:
    """The plain kind of a sequence: named tuples and the like are tuples."""
    return list if isinstance(value, list) else tuple


def _refuse(value: Any, name: str) -> Any:
    raise ValueError(
        f"a checkpoint holds {KEPT}; {name} has a {type(value).__name__}: give its state_dict(), "
        "or what it is made of"
    )


def _decoded(value: Any) -> Any:
    if isinstance(value, Mapping):
        if ARRAY in value:
            return value[ARRAY].numpy()
        return {key: _decoded(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return type_of(value)(_decoded(x) for x in value)
    return value


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the rows of a run's log; a last one torn by a kill is left out.

    Raises ``UserError`` for a damaged file.
    """
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            row = strict_json(line.decode())
            rows.append({n: math.nan if x is None else float(x) for n, x in row.items()})
            rows[-1]["step"]
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise damaged(path, f"line {number} is no row of numbers") from error
    return rows
