"""Clocks: scores by their definition, the laws of monotone alignment, noise by Monte Carlo."""

import itertools
import math
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor

from resonant.functional import (
    Clock,
    Gaussian,
    Lift,
    attend,
    attention_weights,
    clock,
    clock_attention,
    clock_lift,
    energy_gate,
    record_paths,
)
from resonant.functional.attend.blocks import gaussian_blocks, keys_in_reach
from resonant.functional.clock import SCORES, Score
from resonant.functional.pair import log_normal_mass
from tests.functional.clocks import drawn

KINDS = [
    pytest.param(n, s, m, id=f"{'normalized' if n else 'running'}-{s}{'-measure' if m else ''}")
    for n, s, m in itertools.product((True, False), SCORES, (False, True))
    if not (m and s == "interval")
]
NU, EPS = 3e-3, 0.5


def rates(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=dtype) + 0.2


def two_clocks(
    queries: int, keys: int, *, normalized: bool, heads: int = 2, key_heads: int | None = None
) -> tuple[Clock, Clock]:
    """A target of ``queries`` frames and a source of ``keys`` tokens, meeting all along."""
    source = rates(2, key_heads or heads, keys, seed=1)
    target = rates(2, heads, queries, seed=2) * keys / queries
    return clock(target, normalized=normalized), clock(source, normalized=normalized)


def by_definition(query: Clock, key: Clock, score: str, *, measure: bool = False) -> Tensor:
    """Logits as section 3 of the mathematics writes them, for as many key heads as heads."""
    target, source = query.center.unsqueeze(-1), key.center.unsqueeze(-2)
    total_t, total_s = query.total.unsqueeze(-1), key.total.unsqueeze(-1)
    eps = EPS / key.rate.shape[-1] if key.normalized else EPS

    def spread(at: Tensor, total: Tensor) -> Tensor:
        return NU / total * at * (1 - at) if key.normalized else NU * at

    if score == "density":
        variance = spread(target, total_t) + spread(source, total_s) + eps**2
        logits = -((target - source) ** 2) / (2 * variance) - variance.log() / 2
    else:
        both = spread(target, total_t) + spread(target, total_s)
        deviation = (both + eps**2).sqrt()
        if score == "frozen":
            logits = -(((target - source) / deviation) ** 2) / 2
        else:
            high = (key.end.unsqueeze(-2) - target) / deviation
            low = (key.start.unsqueeze(-2) - target) / deviation
            # Straight from the definition, which holds up where no tail is deep.
            logits = (torch.special.ndtr(high) - torch.special.ndtr(low)).log()
    return logits + key.rate.log().unsqueeze(-2) if measure else logits


@pytest.mark.parametrize(("normalized", "score", "measure"), KINDS)
@pytest.mark.parametrize("sizes", [(1, 1), (7, 3), (3, 7), (29, 11), (130, 1)])
def test_scores_are_their_definition(
    normalized: bool, score: Score, measure: bool, sizes: tuple[int, int]
) -> None:
    query, key = two_clocks(*sizes, normalized=normalized)
    value = torch.randn(2, 2, sizes[1], 5, dtype=torch.float64)
    expected = by_definition(query, key, score, measure=measure).softmax(-1) @ value
    options: dict[str, Any] = {"score": score, "measure": measure, "diffusion": NU, "floor": EPS}
    for path in ("auto", "chunked", "materialized"):
        with record_paths() as taken:
            ours = clock_attention(query, key, value, path=path, **options)
        assert taken == ["chunked" if path == "auto" else path]
        torch.testing.assert_close(ours, expected, atol=1e-9, rtol=1e-9)


def test_the_interval_s_logarithm_is_exact_far_out_on_both_sides() -> None:
    low = torch.tensor([-60.0, -9.0, -5.5, -1.0, -0.1, 2.0, 7.0, 30.0, 100.0], dtype=torch.float64)
    mpmath.mp.dps = 60
    for width in (1e-6, 0.01, 0.5, 3.0):
        ours = log_normal_mass(low, low + width)
        for start, got in zip(low.tolist(), ours.tolist(), strict=True):
            a, b = mpmath.mpf(start), mpmath.mpf(start + width)
            # The tail on the near side: the difference of two numbers close to 1 is lost.
            a, b = (a, b) if a + b < 0 else (-b, -a)
            mass = (mpmath.erfc(-b / mpmath.sqrt(2)) - mpmath.erfc(-a / mpmath.sqrt(2))) / 2
            tolerance = 1e-9 if width > 1e-3 else 1e-7
            assert got == pytest.approx(float(mpmath.log(mass)), rel=tolerance)
    wide = log_normal_mass(low.float(), low.float() + 0.5)
    torch.testing.assert_close(wide, log_normal_mass(low, low + 0.5).float(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("normalized", "score", "measure"), KINDS)
def test_the_mean_position_never_goes_back(normalized: bool, score: Score, measure: bool) -> None:
    """The theorem, with very uneven rates, padding, much noise and a gate on keys."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        target, source = (
            3 * torch.rand(2, 2, length, generator=generator, dtype=torch.float64) ** 4
            for length in (60, 17)
        )
        real = torch.rand(2, 17, generator=generator) > 0.2
        key = clock(source, normalized=normalized, mask=real)
        query = clock(target, normalized=normalized)
        noise = 8.0 * min(query.total.min().item(), key.total.min().item()) if normalized else 2.0
        for nu, eps in ((1e-4, 0.3), (noise, 0.3), (noise, 3.0)):
            value = torch.randn(2, 2, 17, 1, dtype=torch.float64)
            options: dict[str, Any] = {"score": score, "measure": measure}
            lift = clock_lift(query, key, value, diffusion=nu, floor=eps, **options)
            for each in (lift, energy_gate(lift, torch.randn(2, 2, 17).double(), 2.0, 0.0)):
                weights = attention_weights(each)
                mean = (weights * torch.arange(17)).sum(-1)
                assert (mean.diff(dim=-1) >= -1e-9).all()


def test_the_theorem_needs_its_conditions() -> None:
    """A normalized density is monotone up to nu / R = 8 and no further, no mask may tell rows."""
    even = clock(torch.full((1, 1, 200), 0.05, dtype=torch.float64))
    value = torch.zeros(1, 1, 200, 1, dtype=torch.float64)

    def lift(noise: float) -> Lift:
        nu = noise * even.total.item()
        return clock_lift(even, even, value, score="density", diffusion=nu, floor=0.01)

    def steepening(noise: float) -> Tensor:
        """How the preference for the later of two neighbours grows with time, 0 or more if ever."""
        pair = lift(noise).pair
        assert pair is not None
        return pair.logits(1, torch.float64)[0, 0].diff(dim=-1).diff(dim=-2)

    assert steepening(8.0).min() >= 0
    assert steepening(9.0).min() < -1e-6
    # With two neighbouring tokens alone in sight, the mean goes back there.
    row, token = divmod(int(steepening(100.0).argmin()), 199)
    only = torch.zeros(1, 200, dtype=torch.bool)
    only[:, token : token + 2] = True
    mean = (attention_weights(lift(100.0), attn_mask=only) * torch.arange(200)).sum(-1)[0, 0]
    assert mean[row + 1] < mean[row]
    mask = torch.ones(200, 200, dtype=torch.bool)
    mask[100, 80:] = False
    weights = attention_weights(clock_lift(even, even, value), attn_mask=mask)
    assert ((weights * torch.arange(200)).sum(-1).diff() < -1).any()


def test_the_condition_on_noise_is_enough_for_unequal_rates() -> None:
    """Where docs/mechanisms/clock.md has no proof: the density's mixed derivative, on a grid."""
    time = torch.linspace(0.001, 0.999, 61, dtype=torch.float64)
    floor = torch.tensor([0.0, 1e-3, 0.1, 0.5, 1.0, 2.0, math.sqrt(8.0), 5.0], dtype=torch.float64)
    eps, x, c = torch.meshgrid(floor, time, time, indexing="ij")
    d = x - c

    def least(a: float, b: float) -> float:
        """Of the mixed derivative times 2 V^3."""
        v = a * x * (1 - x) + b * c * (1 - c) + eps**2
        p = (a + b) * x * (1 - x) + b * d**2 + eps**2
        q = (a + b) * c * (1 - c) + a * d**2 + eps**2
        return (2 * p * q + v * a * b * (1 - 2 * x) * (1 - 2 * c)).min().item()

    for a, b in itertools.product((0.0, 0.01, 0.3, 1.0, 3.0, 5.0, 7.0, 7.9, 8.0), repeat=2):
        assert least(a, b) >= -1e-9, (a, b)
    assert least(8.5, 8.5) < -1e-3


@pytest.mark.parametrize(("normalized", "score", "measure"), KINDS)
def test_a_frame_held_for_longer_looks_where_it_looked(
    normalized: bool, score: Score, measure: bool
) -> None:
    """k copies at a rate of r / k: the middle one of three is unchanged, two lie r / 4 away."""
    source, target = rates(1, 1, 9, seed=1), rates(1, 1, 20, seed=2)
    key, once = clock(source, normalized=normalized), clock(target, normalized=normalized)
    options: dict[str, Any] = {"score": score, "measure": measure, "diffusion": NU, "floor": EPS}
    value = torch.randn(1, 1, 9, 4, dtype=torch.float64)
    rows = clock_attention(once, key, value, **options)
    held = clock(target.repeat_interleave(3, -1) / 3, normalized=normalized)
    thrice = clock_attention(held, key, value, **options)
    torch.testing.assert_close(thrice[:, :, 1::3], rows, atol=1e-12, rtol=1e-12)
    twice = clock(target.repeat_interleave(2, -1) / 2, normalized=normalized)
    quarter = once.rate / 4
    torch.testing.assert_close(twice.center[..., ::2], once.center - quarter)
    torch.testing.assert_close(twice.center[..., 1::2], once.center + quarter)


def test_a_common_factor_of_all_rates_moves_no_normalized_clock() -> None:
    rate = rates(2, 3, 17)
    plain, faster = clock(rate), clock(7.0 * rate)
    torch.testing.assert_close(plain.center, faster.center, atol=1e-15, rtol=1e-12)
    assert (plain.spread > 6.9 * faster.spread).all()
    assert (plain.center.diff(dim=-1) > 0).all()
    assert plain.end[..., -1].allclose(torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("normalized", [True, False])
def test_variances_and_the_meeting_are_those_of_noisy_clocks(normalized: bool) -> None:
    """Increments of mean r and variance nu r, half of each half: 2e5 draws, 4 sigma."""
    generator = torch.Generator().manual_seed(3)
    nu, draws = 0.02, 200_000
    rate = torch.tensor([0.7, 0.2, 1.5, 0.4, 1.1], dtype=torch.float64)
    exact, halves = clock(rate.expand(1, 1, -1), normalized=normalized), (rate / 2)
    halves = halves.repeat_interleave(2).expand(draws, -1)

    def middles(increments: Tensor) -> Tensor:
        path = increments.cumsum(-1)
        if not normalized:
            return path[:, ::2]
        mean = halves.cumsum(-1)  # a bridge: what is off at the end is taken back as time goes
        share = mean / mean[:, -1:]
        off = path - mean
        return (share + (off - share * off[:, -1:]) / mean[:, -1:])[:, ::2]

    gamma = torch._standard_gamma(halves / nu, generator=generator) * nu  # type: ignore[attr-defined]
    noise = torch.randn(2, draws, 10, generator=generator, dtype=torch.float64)
    gaussian = [middles(halves + (nu * halves).sqrt() * each) for each in noise]
    for found in (middles(gamma), *gaussian):
        variance, fourth = found.var(0), (found - found.mean(0)).pow(4).mean(0)
        error = 4 * ((fourth - variance**2) / draws).sqrt()
        assert ((variance - nu * exact.spread[0, 0]).abs() < error).all()
        assert ((found.mean(0) - exact.center[0, 0]).abs() < 4 * (variance / draws).sqrt()).all()
    # Two independent clocks meet: how often they differ by less than a width, which the density of
    # section "Meeting", integrated over it, foretells.
    width = 0.05 if not normalized else 0.01
    for t, s in ((1, 1), (2, 3), (3, 2)):
        near = ((gaussian[0][:, t] - gaussian[1][:, s]).abs() < width).double().mean()
        gap = exact.center[0, 0, t] - exact.center[0, 0, s]
        spread = (nu * (exact.spread[0, 0, t] + exact.spread[0, 0, s])).sqrt()
        chance = torch.special.ndtr((width - gap) / spread) - torch.special.ndtr(
            (-width - gap) / spread
        )
        assert (near - chance).abs() < 4 * (chance * (1 - chance) / draws).sqrt() + 1e-12


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("normalized", [True, False])
def test_gradients_by_finite_differences(score: Score, normalized: bool) -> None:
    source, target = rates(1, 1, 5, seed=1), rates(1, 2, 6, seed=2)
    value = torch.randn(1, 1, 5, 3, dtype=torch.float64)
    nu = torch.tensor([0.02, 0.1], dtype=torch.float64)
    eps = torch.tensor([0.6, 0.9], dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (target, source, value, nu, eps)]
    for path, measure in itertools.product(("chunked", "materialized"), (False, True)):
        if measure and score == "interval":
            continue

        def run(target: Tensor, source: Tensor, value: Tensor, nu: Tensor, eps: Tensor) -> Tensor:
            query, key = (clock(x, normalized=normalized) for x in (target, source))
            options: dict[str, Any] = {"score": score, "measure": measure, "path": path}  # noqa: B023
            return clock_attention(query, key, value, diffusion=nu, floor=eps, **options)

        assert torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize(("normalized", "score", "measure"), KINDS)
def test_clocks_that_stand_still_have_finite_gradients(
    normalized: bool, score: Score, measure: bool
) -> None:
    """No time passes at all, or for some tokens, or next to none; on either side."""
    for dtype in (torch.float32, torch.float64):
        still, moving = torch.zeros(2, 2, 70, dtype=dtype), rates(2, 2, 70, dtype=dtype)
        partly = moving.clone()
        partly[:, :, 10:30] = 0.0
        partly[:, :, 40] = 1e-30
        for target, source in itertools.product((still, moving, partly), repeat=2):
            value = torch.randn(2, 2, 70, 4, dtype=dtype)
            inputs = [x.clone().requires_grad_() for x in (target, source, value)]
            nu, eps = (torch.tensor([x], dtype=dtype).requires_grad_() for x in (NU, EPS))
            options: dict[str, Any] = {"score": score, "measure": measure}
            for path in ("chunked", "materialized"):
                query, key = (clock(x, normalized=normalized) for x in inputs[:2])
                options |= {"diffusion": nu, "floor": eps, "path": path}
                output = clock_attention(query, key, inputs[2], **options)
                gradients = torch.autograd.grad(
                    output.square().sum(), [*inputs, nu, eps], allow_unused=True
                )
                assert output.isfinite().all()
                assert all(g.isfinite().all() for g in gradients if g is not None)


@pytest.mark.parametrize(("normalized", "score", "measure"), KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_of_source_and_target_changes_nothing(
    normalized: bool, score: Score, measure: bool, side: str
) -> None:
    source, target = rates(1, 2, 9, seed=1), rates(1, 2, 31, seed=2) * 9 / 31
    value = torch.randn(1, 2, 9, 4, dtype=torch.float64)
    options: dict[str, Any] = {"score": score, "measure": measure, "diffusion": NU, "floor": EPS}

    def padded(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        loud = torch.full((*x.shape[:2], count, *x.shape[3:]), 7.0, dtype=x.dtype)
        real = torch.ones(1, x.shape[2], dtype=torch.bool)
        both, masks = [x, loud], [real, torch.zeros(1, count, dtype=torch.bool)]
        order = slice(None, None, -1) if side == "left" else slice(None)
        return torch.cat(both[order], dim=2), torch.cat(masks[order], dim=1)

    query, key = (clock(x, normalized=normalized) for x in (target, source))
    alone = clock_attention(query, key, value, **options)
    (long_source, real_source), (long_target, real_target) = padded(source, 5), padded(target, 40)
    key = clock(long_source, normalized=normalized, mask=real_source)
    query = clock(long_target, normalized=normalized, mask=real_target)
    for path in ("chunked", "materialized"):
        together = clock_attention(query, key, padded(value, 5)[0], path=path, **options)
        torch.testing.assert_close(together[:, :, real_target[0]], alone, atol=1e-12, rtol=1e-12)


def test_work_is_linear_where_the_spread_is_small() -> None:
    """Twice the length, twice the pairs of blocks and keys; all of them without an order."""

    def pairs(length: int) -> int:
        target, source, value, numbers = drawn(4 * length, length, 0, 1.0)
        lift = clock_lift(clock(target), clock(source), value, **numbers)
        assert isinstance(lift.pair, Gaussian)
        bounds = gaussian_blocks(lift.pair)
        assert bounds is not None
        assert bounds[-1] == 4 * length
        spans = keys_in_reach(lift, bounds)
        return sum(b - a for a, b in spans)

    assert pairs(2000) < 2.6 * pairs(1000)
    assert pairs(1000) < 0.2 * 1000 * (4000 / 64)
    center = torch.tensor([[[3.0, 1.0, 2.0]]])
    pair = Gaussian(torch.zeros(1, 1, 9), center, torch.ones(1, 1, 1))
    empty = torch.zeros(1, 1, 9, 0), torch.zeros(1, 1, 3, 0)
    assert keys_in_reach(Lift(*empty, torch.zeros(1, 1, 3, 2), pair=pair), [0, 9]) == [(0, 3)]


def test_no_key_within_reach_is_dropped_when_the_nearest_are_hidden() -> None:
    """All keys near a query are padding: the nearest visible ones, far away, take their place."""
    source, target = torch.ones(1, 1, 400).double(), torch.full((1, 1, 400), 1.0).double()
    real = torch.zeros(1, 400, dtype=torch.bool)
    real[:, :5] = True
    real[:, 395:] = True
    value = torch.randn(1, 1, 400, 3, dtype=torch.float64)
    key = clock(source, normalized=False)
    bias = torch.zeros(1, 1, 400).masked_fill(~real, -math.inf).double()
    lift = clock_lift(clock(target, normalized=False), key, value, floor=0.5).add_bias(bias)
    ours, exact = (attend(lift, path=path) for path in ("chunked", "materialized"))
    torch.testing.assert_close(ours, exact, atol=1e-12, rtol=1e-12)
    # A loud bias far away counts too.
    bias[:, :, 399] = 90_000.0
    lift = clock_lift(clock(target, normalized=False), key, value, floor=0.5).add_bias(bias)
    ours, exact = (attend(lift, path=path) for path in ("chunked", "materialized"))
    torch.testing.assert_close(ours, exact, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_heads_may_share_the_clocks_of_the_source(score: Score) -> None:
    query, key = two_clocks(150, 20, normalized=True, heads=4, key_heads=2)
    value = torch.randn(2, 2, 20, 3, dtype=torch.float64)
    many = clock(key.rate.repeat_interleave(2, 1) * key.total.repeat_interleave(2, 1))
    for path in ("chunked", "materialized"):
        ours = clock_attention(query, key, value, score=score, path=path)
        each = clock_attention(query, many, value.repeat_interleave(2, 1), score=score, path=path)
        torch.testing.assert_close(ours, each, atol=1e-12, rtol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused_says_why() -> None:
    query, key = two_clocks(5, 4, normalized=True)
    value = torch.randn(2, 2, 4, 3)
    with pytest.raises(ValueError, match="score is one of frozen, density, interval; it is 'l2'"):
        clock_attention(query, key, value, score="l2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="floor must be above 0; it is 0"):
        clock_attention(query, key, value, floor=0.0)
    with pytest.raises(ValueError, match="diffusion must be finite and not below 0; it is -1"):
        clock_attention(query, key, value, diffusion=-1.0)
    with pytest.raises(ValueError, match="both clocks must be normalized or neither"):
        clock_attention(query, two_clocks(5, 4, normalized=False)[1], value)
    with pytest.raises(ValueError, match="holds each token's rate already; leave out measure"):
        clock_attention(query, key, value, score="interval", measure=True)
    with pytest.raises(ValueError, match="both clocks and the value must share the batch"):
        clock_attention(query, key, value[:, :, :3])
    with pytest.raises(ValueError, match=r"rate must be \(batch, head, token\)"):
        clock(torch.rand(3, 9))
    with pytest.raises(ValueError, match=r"mask must have shape \(batch, token\) = \(1, 3\)"):
        clock(rates(1, 1, 3), mask=torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="needs all tokens at once, so it has no start"):
        clock(rates(1, 1, 3), start=torch.zeros(1, 1, 1).double())


def test_what_is_no_number_comes_out() -> None:
    """Keys out of reach are cut away; a clock that is no number is not thereby hidden."""
    target, source, value, numbers = drawn(60, 40, 0, 1.0)
    target[:, :, 30] = math.nan
    output = clock_attention(clock(target), clock(source), value, **numbers)
    assert output.isnan().any()
