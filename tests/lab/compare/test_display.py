"""Progress: a live table in a terminal, plain lines elsewhere, a time left that is about right."""

import dataclasses
import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from resonant.lab.compare.display import Display, clock
from resonant.lab.domains import EXPERIMENTS
from resonant.lab.kit.config import TrainingConfig
from resonant.lab.run.pool import Pool, RunState


def pool(*statuses: str) -> Pool:
    states, base = [], EXPERIMENTS["stdlib"].base
    base = dataclasses.replace(base, training=TrainingConfig(steps=100))
    for seed, status in enumerate(statuses):
        config = dataclasses.replace(base, seed=seed)
        state = RunState(config, Path(f"runs/{config.name}"), status=status)  # type: ignore[arg-type]
        states.append(state)
    return Pool(states, 2, None)


def test_plain_lines_tell_each_change_once() -> None:
    stream = io.StringIO()
    shown = pool("running", "waiting")
    with Display(shown, Console(file=stream, width=40)) as display:
        display.show()
        display.show()
        shown.states[0].status, shown.states[1].status = "done", "running"
        display.show()
    lines = stream.getvalue().splitlines()
    assert [line.split("]  ")[1] for line in lines] == [
        "softmax-seed0: running step 0/100",
        "softmax-seed0: done",
        "softmax-seed1: running step 0/100",
    ]
    assert "1/2 runs" in lines[-1]
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_shows_all_runs_at_once() -> None:
    stream = io.StringIO()
    shown = pool("running", "waiting", "kept")
    with Display(shown, Console(file=stream, force_terminal=True, width=100)) as display:
        display.show()
    text = stream.getvalue()
    for run in ("softmax-seed0", "softmax-seed1", "softmax-seed2"):
        assert run in text
    assert "left" in text


def test_time_left_is_work_left_over_pace() -> None:
    shown = pool("running", "running", "waiting")
    assert shown.seconds_left() is None
    shown.started = time.monotonic() - 10
    for state in shown.states[:2]:
        state.first_step, state.step = 0, 25
    assert shown.seconds_left() == pytest.approx(10 * 250 / 50, rel=0.05)


def test_clock() -> None:
    assert [clock(x) for x in (None, 5.0, 65.0, 3725.0)] == ["-:--", "0:05", "1:05", "1:02:05"]
