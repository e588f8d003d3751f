"""Several processes of one run, started by PyTorch's torchrun and followed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import write_atomically
from ..kit.optimizer import Diverged, Report

JOB = "job.json"  # in the run's folder: what each process reads
WATCHED = "RESONANT_WATCHED"  # set where standard input ends with the parent


def write_job(job: Mapping[str, Any]) -> Path:
    """Write what the processes of a run read into its folder; returns the file."""
    path = Path(job["directory"]) / JOB
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(dict(job)).encode(), "job")
    return path


def train_in_processes(job: Mapping[str, Any], report: Report) -> None:
    """Train the run of ``job`` in ``job["processes"]`` processes of this machine.

    Raises ``UserError`` for what the first of them says is wrong, ``RuntimeError`` where one dies.
    """
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(job["processes"])]
    command += ["-m", "resonant.lab.run.sharded", str(write_job(job))]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    fixed = {"PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1", WATCHED: "1"}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # its end is what ranks watch
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | threads | fixed,
        )
        try:
            why = _followed(_messages(process), report)
            if why is not None:
                # The others notice first that one is gone: how that one went says torchrun.
                raise RuntimeError(_last_words(process, errors) or why)
        finally:
            _end(process)


def _messages(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Read what the first process says; other lines are torchrun's."""
    assert process.stdout is not None
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict) and "event" in message:
                yield message


def _followed(messages: Iterator[dict[str, Any]], report: Report) -> str | None:
    """Report how the run goes; returns None when it is done, or why it is not."""
    for message in messages:
        if message["event"] == "progress":
            report(message["step"], message["loss"])
        elif message["event"] == "failed":
            said = message["message"]
            if message.get("fault"):
                return said
            raise Diverged(said) if message.get("diverged") else UserError(said)
        elif message["event"] == "done":
            return None
    return "the processes of the run ended and said nothing"


def _last_words(process: subprocess.Popen[bytes], errors: Any) -> str:
    """Find which process was killed, in the words of torchrun; "" if none was."""
    process.wait()
    errors.seek(0)
    lines = errors.read().decode(errors="replace").splitlines()
    killed = [each for each in lines if "Signal" in each and "received by PID" in each]
    return f"a process of the run was killed: {killed[-1].strip()}" if killed else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let torchrun end; whoever is left ends with its input."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.terminate()
    process.stdin.close()
    process.stdout.close()
    process.wait()
