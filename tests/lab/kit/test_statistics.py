"""Paired intervals against scipy and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from resonant.lab.kit.statistics import paired_difference


def test_the_interval_is_scipy_s() -> None:
    ours, control = [1.1, 1.4, 1.2, 1.9], [1.0, 1.1, 1.3, 1.5]
    result = paired_difference(ours, control)
    theirs = stats.ttest_rel(ours, control).confidence_interval(0.95)
    assert result.half_width is not None
    assert math.isclose(result.mean - result.half_width, theirs.low)
    assert math.isclose(result.mean + result.half_width, theirs.high)


def test_verdicts() -> None:
    assert paired_difference([1.0, 1.1, 1.2], [2.0, 2.1, 2.21]).verdict == "lower"
    assert paired_difference([2.0, 2.1, 2.21], [1.0, 1.1, 1.2]).verdict == "higher"
    assert paired_difference([1.0, 2.0, 3.0], [2.0, 1.0, 3.1]).verdict == "no difference shown"


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds(seeds: int) -> None:
    result = paired_difference([1.0] * seeds, [2.0] * seeds)
    assert result.verdict == "too few seeds"
    assert result.half_width is None
    assert result.detectable is None
    assert result.mean == -1.0


def test_an_effect_of_the_detectable_size_is_found_in_about_80_percent() -> None:
    generator = np.random.default_rng(0)
    found, trials, seeds = 0, 2000, 5
    error = 1 / math.sqrt(seeds)
    effect = error * float(stats.t.ppf(0.975, seeds - 1) + stats.t.ppf(0.8, seeds - 1))
    for _ in range(trials):
        draws = generator.normal(effect, 1.0, seeds)
        found += paired_difference(list(draws), [0.0] * seeds).verdict == "higher"
    assert 0.72 < found / trials < 0.88  # the usual approximation: near 0.8, not at it


def test_unpaired_results_are_refused() -> None:
    with pytest.raises(ValueError, match="one of each, not 2 and 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])
