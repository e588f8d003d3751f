"""Ratios of CPU time within one interleaved run; peak memory of a step in a fresh process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from ..memory import peak_bytes, reset_peak

ROUNDS = 7


def interleaved(steps: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median CPU seconds of each step, the steps taking turns."""
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.process_time()
            step()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}


def peak_of(case: str) -> int:
    """Bytes that one forward and backward of ``case`` adds at its peak, in a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-m", "resonant.benchmarks.measure", case],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(finished.stdout)


def main() -> None:
    """Print the peak of the case named on the command line."""
    from .cases import CASES, THREADS, set_threads

    set_threads(THREADS)
    step = CASES[sys.argv[1]]()
    baseline = reset_peak()
    step()
    print(peak_bytes() - baseline)


if __name__ == "__main__":
    main()
