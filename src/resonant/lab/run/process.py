"""Child processes that speak JSON, a line a message."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from typing import Any


class Child:
    """``python -m MODULE`` with one computing thread; it ends when this end is closed."""

    def __init__(self, module: str) -> None:
        # A file, not a pipe: a talkative child would fill a pipe that nobody reads, and stop.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        threads["PYTHONHASHSEED"] = "0"  # so that sets of strings have one order in all of them
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | threads,
            errors="replace",
        )

    def send(self, message: dict[str, Any] | str) -> None:
        """Send a message; a dead child is noticed by ``receive``."""
        assert self.process.stdin is not None
        text = message if isinstance(message, str) else json.dumps(message)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next message, or None when the child has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def last_words(self) -> str:
        """How a dead child ended: its signal or status and the last line of its errors."""
        status = self.process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        return f"{ended}: {lines[-1]}" if lines else ended

    def close(self) -> None:
        """Let the child end, or end it."""
        self.stop()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self._errors.close()

    def stop(self) -> None:
        """End the child; whoever waits in ``receive`` gets None."""
        self.process.terminate()
        self.process.wait()
