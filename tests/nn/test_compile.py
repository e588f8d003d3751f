"""Full graphs and exported programs, checked in a process without run-time type checks."""

import subprocess
import sys

import pytest


def run(what: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.nn.compiled", what],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert finished.stdout.strip().endswith("done")


@pytest.mark.parametrize("what", ["training", "export"])
@pytest.mark.slow
def test_full_graph(what: str) -> None:
    run(what)


@pytest.mark.slow
@pytest.mark.timeout(900)  # every mechanism is compiled: five minutes beside other work
@pytest.mark.parametrize("what", ["all", "clocks", "enrolled", "inductor", "vision"])
def test_the_rest(what: str) -> None:
    run(what)
