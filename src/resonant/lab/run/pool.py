"""Persistent workers that share a list of runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import UserError
from ...files import disk_error
from .process import Child

Status = Literal["waiting", "running", "done", "kept", "failed"]


@dataclass
class RunState:
    """Where one run stands.

    ``job`` is what its worker is sent, as JSON; ``steps`` how many it will take in all, or None.
    """

    directory: Path
    job: Mapping[str, Any]
    steps: int | None
    status: Status = "waiting"
    first_step: int | None = None
    step: int = 0
    loss: float | None = None
    message: str = ""
    internal: bool = False
    diverged: bool = False

    def follow(self, message: Mapping[str, Any]) -> bool:
        """Take up what its worker says; returns whether it has ended."""
        if message["event"] == "progress":
            self.step, self.loss = message["step"], message["loss"]
            if self.first_step is None:
                self.first_step = self.step
        elif message["event"] == "failed":
            self.status, self.message = "failed", message["message"]
            self.internal = bool(message.get("fault"))
            self.diverged = bool(message.get("diverged"))
        elif message["event"] == "done":
            self.status, self.step = "done", self.steps or self.step
        return self.status in ("done", "failed")

    def attempt(self, work: Callable[[], None]) -> None:
        """Do the run's work in this process, and take up how it ends."""
        self.status = "running"
        try:
            work()
        except UserError as error:
            self.follow({"event": "failed", "message": str(error)})
        except OSError as error:
            self.follow({"event": "failed", "message": str(disk_error(error))})
        else:
            self.follow({"event": "done"})

    @property
    def failure(self) -> str:
        """What went wrong, in a sentence that names the run; "" if nothing did."""
        if self.status != "failed":
            return ""
        name, said = self.directory.name, self.message.strip().splitlines()[-1]
        return said if name in said else f"{name}: {said}"

    def worked(self) -> int:
        """Count the steps taken here; a run of unknown length is one step, taken at its end."""
        if self.steps is None:
            return int(self.status == "done")
        return 0 if self.first_step is None else self.step - self.first_step

    def left(self) -> int:
        """Count the steps still to be taken."""
        if self.status not in ("waiting", "running"):
            return 0
        return 1 if self.steps is None else self.steps - self.step


@dataclass
class Pool:
    """Runs ``states`` on worker processes; one that dies fails its run, not the others.

    A worker is ``python -m MODULE``; they take ``devices`` in turn.
    """

    states: Sequence[RunState]
    workers: int
    module: str = "resonant.lab.run.worker"
    devices: Sequence[str] = ("cpu",)
    started: float = field(default_factory=time.monotonic)

    def run(self, show: Callable[[], None]) -> None:
        """Work through all waiting runs, calling ``show`` a few times a second."""
        waiting = deque(state for state in self.states if state.status == "waiting")
        self._children: list[Child] = []
        threads = [
            threading.Thread(
                target=self._work,
                args=(waiting, self.devices[number % len(self.devices)]),
                daemon=True,
            )
            for number in range(min(self.workers, len(waiting)))
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                show()
                time.sleep(0.25)
            show()
        finally:
            # Nothing new is begun; threads that still wait for a message get none.
            waiting.clear()
            for child in list(self._children):
                child.stop()
            for thread in threads:
                thread.join()
            for child in self._children:
                child.close()

    def _work(self, waiting: deque[RunState], device: str) -> None:
        child: Child | None = None
        while waiting:
            try:
                state = waiting.popleft()
            except IndexError:
                break
            if child is None:
                child = Child(self.module)
                self._children.append(child)
            self._follow(child, state, device)
            if child.process.poll() is not None:
                self._children.remove(child)
                child.close()
                child = None

    def _follow(self, child: Child, state: RunState, device: str) -> None:
        state.status = "running"
        child.send({**state.job, "directory": str(state.directory), "device": device})
        while True:
            message = child.receive()
            if message is None:
                state.status, state.internal = "failed", True
                state.message = f"its worker ended ({child.last_words()})"
                return
            if state.follow(message):
                return

    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is one."""
        worked = sum(state.worked() for state in self.states)
        elapsed = time.monotonic() - self.started
        left = sum(state.left() for state in self.states)
        return left * elapsed / worked if worked > 0 and elapsed > 3 else None
