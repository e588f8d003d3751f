"""Paired intervals against scipy and against simulation."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from resonant.lab.kit.statistics import paired_difference, smallest_effect


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
    effect = error * smallest_effect(seeds)
    for _ in range(trials):
        draws = generator.normal(effect, 1.0, seeds)
        found += paired_difference(list(draws), [0.0] * seeds).verdict == "higher"
    assert abs(found / trials - 0.8) < 3 * math.sqrt(0.16 / trials)


@pytest.mark.parametrize(("seeds", "errors"), [(3, 5.653), (5, 3.761), (100, 2.829)])
def test_the_smallest_effect_is_exact(seeds: int, errors: float) -> None:
    """For three seeds 5.363, the sum of two quantiles, has a power of 0.766 alone."""
    assert smallest_effect(seeds) == pytest.approx(errors, abs=1e-3)
    limit = stats.t.ppf(0.975, seeds - 1)
    delta = smallest_effect(seeds)
    power = stats.nct.sf(limit, seeds - 1, delta) + stats.nct.cdf(-limit, seeds - 1, delta)
    assert power == pytest.approx(0.8, abs=1e-6)
    result = paired_difference([1.0, 2.0, 4.0], [0.0, 0.0, 0.0])
    assert result.detectable == pytest.approx(smallest_effect(3) * stats.sem([1.0, 2.0, 4.0]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_result_that_is_no_number_is_an_error(bad: float, seeds: int) -> None:
    for ours, control in (([bad], [1.0]), ([1.0], [bad])):
        with pytest.raises(ValueError, match=f"result 1 of {seeds}, .* is {bad}"):
            paired_difference(ours * seeds, control * seeds)


def test_unpaired_results_are_refused() -> None:
    with pytest.raises(ValueError, match="one of each, not 2 and 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


def test_numbers_that_have_no_interval() -> None:
    with pytest.raises(ValueError, match="beyond any loss"):
        paired_difference([1e308] * 3, [-1e308] * 3)
    with pytest.raises(ValueError, match="an interval needs 3 seeds or more; there are 2"):
        smallest_effect(2)


@pytest.mark.usefixtures("unchecked")
def test_arrays_are_numbers_too() -> None:
    ours: Any = np.array([1.0, 2.0, 3.0])
    plain = paired_difference([1.0, 2.0, 3.0], [1.5, 2.0, 2.0])
    assert paired_difference(ours, [1.5, 2.0, 2.0]) == plain
