"""A worker process: one thread, runs handed to it one by one as lines of JSON.

Started by ``compare`` as ``python -m resonant.lab.run.worker``; ends when its input ends.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

REPORT_EVERY_SECONDS = 0.5

Report = Callable[[int, float], None]
Handle = Callable[[Mapping[str, Any], Report], None]


def main() -> None:
    """Serve trainings until the input closes."""
    serve(_train)


def serve(handle: Handle) -> None:
    """Handle jobs until the input closes; say how each goes and how it ends."""
    # The real standard output is the channel; whatever a library prints goes to standard error.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        try:
            _serve(json.loads(line), channel, handle)
        except BrokenPipeError:
            return


def serve_one(job: Mapping[str, Any], handle: Handle) -> int:
    """Handle one job as one process of several, of which the first says how it goes.

    Returns the status to exit with.
    """
    import torch

    first = os.environ.get("RANK", "0") == "0"
    with os.fdopen(os.dup(1), "w", buffering=1) if first else open(os.devnull, "w") as channel:
        os.dup2(2, 1)
        if job["device"] == "cpu":
            torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True, warn_only=job["device"] != "cpu")
        ended = _serve(job, channel, handle)
    if ended["event"] == "done":
        return 0
    print(ended["message"], file=sys.stderr)
    return 1


def _train(job: Mapping[str, Any], report: Report) -> None:
    if job.get("processes", 1) > 1:
        from .torchrun import train_in_processes

        train_in_processes(job, report)
        return
    import torch

    from ..domains import read_run, receive
    from .loop import train

    # Elsewhere than on the CPU some sums have no deterministic form: a warning, no error.
    torch.use_deterministic_algorithms(True, warn_only=job["device"] != "cpu")
    data_dir = None if job["data_dir"] is None else Path(job["data_dir"])
    config, directory = read_run(job["config"]), Path(job["directory"])
    receive(config, job.get("carried"))
    train(config, directory, data_dir, report, device=job["device"])


def _serve(job: Mapping[str, Any], channel: TextIO, handle: Handle) -> dict[str, Any]:
    """Handle a job and say how it goes; returns what was said last."""
    import time

    from ...errors import UserError
    from ...files import disk_error
    from ..kit.optimizer import Diverged

    last = 0.0

    def say(**message: object) -> dict[str, Any]:
        channel.write(json.dumps(message) + "\n")
        return message

    def report(step: int, loss: float) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_EVERY_SECONDS:
            last = time.monotonic()
            say(event="progress", step=step, loss=loss)

    say(event="started")
    try:
        handle(job, report)
    except TimeoutError:
        busy = f"{job['directory']} is in use by another process; wait for it or choose --out"
        return say(event="failed", message=busy)
    except UserError as error:
        return say(event="failed", message=str(error), diverged=isinstance(error, Diverged))
    except OSError as error:
        return say(event="failed", message=str(disk_error(error)))
    except Exception:
        return say(event="failed", message=traceback.format_exc(), fault=True)
    return say(event="done")


if __name__ == "__main__":
    main()
