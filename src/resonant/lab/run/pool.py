"""Persistent workers that share a list of runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from ..kit.config import RunConfig
from .process import Child

Status = Literal["waiting", "running", "done", "kept", "failed"]


@dataclass
class RunState:
    """Where one run stands."""

    config: RunConfig
    directory: Path
    status: Status = "waiting"
    first_step: int | None = None
    step: int = 0
    loss: float | None = None
    message: str = ""
    internal: bool = False
    diverged: bool = False

    @property
    def steps(self) -> int:
        """Steps the run will take in all."""
        return self.config.training.steps


@dataclass
class Pool:
    """Runs ``states`` on worker processes; one that dies fails its run, not the others.

    Workers take ``devices`` in turn.
    """

    states: Sequence[RunState]
    workers: int
    data_dir: Path | None
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
                child = Child("resonant.lab.run.worker")
                self._children.append(child)
            self._follow(child, state, device)
            if child.process.poll() is not None:
                self._children.remove(child)
                child.close()
                child = None

    def _follow(self, child: Child, state: RunState, device: str) -> None:
        state.status = "running"
        child.send(
            {
                "config": asdict(state.config),
                "directory": str(state.directory),
                "data_dir": None if self.data_dir is None else str(self.data_dir),
                "device": device,
            }
        )
        while True:
            message = child.receive()
            if message is None:
                state.status, state.internal = "failed", True
                state.message = f"its worker ended ({child.last_words()})"
                return
            if message["event"] == "progress":
                state.step, state.loss = message["step"], message["loss"]
                if state.first_step is None:
                    state.first_step = state.step
            elif message["event"] == "failed":
                state.status, state.message = "failed", message["message"]
                state.internal = bool(message.get("fault"))
                state.diverged = bool(message.get("diverged"))
                return
            elif message["event"] == "done":
                state.status, state.step = "done", state.steps
                return

    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is one."""
        worked = sum(s.step - (s.first_step or 0) for s in self.states if s.first_step is not None)
        elapsed = time.monotonic() - self.started
        left = sum(s.steps - s.step for s in self.states if s.status in ("waiting", "running"))
        return left * elapsed / worked if worked > 0 and elapsed > 3 else None
