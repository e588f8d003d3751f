"""Progress: a live table in a terminal, plain lines elsewhere, a time left that is about right."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from resonant.lab.compare.display import Display, clock
from resonant.lab.run.pool import Pool, RunState


def pool(*statuses: str, steps: int | None = 100) -> Pool:
    states = [
        RunState(Path(f"runs/softmax-seed{seed}"), {}, steps, status=status)  # type: ignore[arg-type]
        for seed, status in enumerate(statuses)
    ]
    return Pool(states, 2)


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


def test_runs_of_unknown_length_show_the_step_they_say_and_count_as_one_each() -> None:
    stream = io.StringIO()
    shown = pool("running", "running", "waiting", steps=None)
    shown.states[0].follow({"event": "progress", "step": 7, "loss": 0.5})
    with Display(shown, Console(file=stream, width=60)) as display:
        display.show()
    assert "softmax-seed0: running step 7, loss 0.500" in stream.getvalue()
    with Display(shown, Console(file=io.StringIO(), force_terminal=True)) as display:
        display.show()
    shown.started = time.monotonic() - 10
    assert shown.seconds_left() is None
    assert shown.states[0].follow({"event": "done"})
    assert shown.states[0].step == 7
    assert shown.seconds_left() == pytest.approx(20, rel=0.05)


def test_clock() -> None:
    assert [clock(x) for x in (None, 5.0, 65.0, 3725.0)] == ["-:--", "0:05", "1:05", "1:02:05"]
