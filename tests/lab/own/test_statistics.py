"""The statistics from end to end: what `resonant.compare` says, a thousand times over."""

import math
from pathlib import Path

import numpy as np
import pytest

import resonant
from resonant.lab import Run
from resonant.lab.kit.statistics import smallest_effect

REPETITIONS, SEEDS, DEVIATION = 1000, 3, 0.25  # deviation of a score's noise
SECRET = 20261127


def measured(arm: tuple[str, float, int], seed: int, run: Run) -> dict[str, float]:
    """A true value under normal noise of known deviation, independent by arm and seed."""
    name, value, repetition = arm
    drawn = np.random.default_rng([SECRET, repetition, seed, *name.encode()])
    return {"score": value + DEVIATION * drawn.standard_normal()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intervals_cover_and_the_smallest_detectable_effect_is_found(tmp_path: Path) -> None:
    """Without a difference 95 % of intervals hold 0; a true one of that size shows in 80 %."""
    # A difference of two independent scores deviates by sqrt(2) times as much.
    effect = smallest_effect(SEEDS) * math.sqrt(2) * DEVIATION / math.sqrt(SEEDS)
    covered = found = 0
    for repetition in range(REPETITIONS):
        values = {"control": 1.0, "same": 1.0, "other": 1.0 + effect}
        result = resonant.compare(
            {name: (name, value, repetition) for name, value in values.items()},
            measured,
            control="control",
            seeds=SEEDS,
            out=tmp_path / str(repetition),
            workers=0,
            show=False,
        )
        verdicts = {row[1]: row[5] for row in result.table.rows}
        covered += verdicts["same"] == "no difference shown"
        found += verdicts["other"] == "higher"
        same = result.difference("same", "score")
        assert same.half_width is not None
        assert (abs(same.mean) <= same.half_width) == (verdicts["same"] == "no difference shown")
    assert 0.93 <= covered / REPETITIONS <= 0.97
    assert 0.77 <= found / REPETITIONS <= 0.83
