"""Paired differences over seeds: interval, and the smallest effect these seeds could have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8
FEWEST_SEEDS = 3
LARGEST = 1e100  # of a difference: its square is a number too


@dataclass(frozen=True)
class Difference:
    """A paired difference: mean over n seeds, half-width of its interval, smallest effect.

    ``half_width`` and ``detectable`` are None with fewer than three seeds.
    """

    mean: float
    seeds: int
    half_width: float | None
    detectable: float | None

    @property
    def verdict(self) -> str:
        """In words: too few seeds, lower, higher, or no difference shown."""
        if self.half_width is None:
            return "too few seeds"
        if abs(self.mean) <= self.half_width:
            return "no difference shown"
        return "lower" if self.mean < 0 else "higher"


def paired_difference(ours: Sequence[float], control: Sequence[float]) -> Difference:
    """``mean(ours - control)`` with a 95 % t interval over seeds, pairs sharing their seed.

    ``half_width = t(0.975, n - 1) sd / sqrt(n)``; ``detectable = smallest_effect(n) sd / sqrt(n)``
    is the true difference that such a test would find in 80 % of repetitions.

    Raises ``ValueError`` when the two do not pair up, and for a result that is no finite number.
    """
    ours, control = [float(x) for x in ours], [float(x) for x in control]
    if len(ours) != len(control) or not ours:
        raise ValueError(f"paired results need one of each, not {len(ours)} and {len(control)}")
    for name, values in (("ours", ours), ("the control's", control)):
        for seed, value in enumerate(values):
            if not math.isfinite(value):
                raise ValueError(
                    f"result {seed + 1} of {len(values)}, {name}, is {value}: a difference of such "
                    "has no interval; leave its seed out on both sides, or train it again"
                )
    differences = [a - b for a, b in zip(ours, control, strict=True)]
    count = len(differences)
    if not all(abs(d) < LARGEST for d in differences):
        raise ValueError(f"results differ by {max(map(abs, differences)):.3g}, beyond any loss")
    mean = math.fsum(differences) / count
    if count < FEWEST_SEEDS:
        return Difference(mean, count, None, None)
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (count - 1))
    error = deviation / math.sqrt(count)
    two_sided = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1))
    return Difference(mean, count, two_sided * error, smallest_effect(count) * error)


@cache
def smallest_effect(seeds: int) -> float:
    """Find the true difference, in standard errors, that ``seeds`` pairs show in 80 % of cases.

    The root in delta of ``P(|T| > t(0.975, n - 1)) = 0.8`` for T of the noncentral t distribution
    with n - 1 degrees of freedom and noncentrality delta: exact for normal differences.

    Raises ``ValueError`` for fewer seeds than three.
    """
    if seeds < FEWEST_SEEDS:
        raise ValueError(f"an interval needs {FEWEST_SEEDS} seeds or more; there are {seeds}")
    free = seeds - 1
    limit = float(stats.t.ppf(0.5 + CONFIDENCE / 2, free))

    def missing(delta: float) -> float:
        found = stats.nct.sf(limit, free, delta) + stats.nct.cdf(-limit, free, delta)
        return float(found) - POWER

    # The sum of the two quantiles is the usual approximation; far beyond it scipy gives no number.
    near = limit + float(stats.t.ppf(POWER, free))
    found = optimize.brentq(missing, 0.5 * near, 1.5 * near, xtol=1e-10)
    return float(found)  # type: ignore[arg-type]
