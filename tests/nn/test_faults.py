"""Laws that every module is enrolled in, found by faults: each kind is closed for all of them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resonant.functional import (
    Band,
    Causal,
    Full,
    attend,
    clock,
    clock_attention,
    durations,
    gaussian_locality,
    krause_attention,
    mechanism,
)
from resonant.functional.attend import record_paths
from resonant.functional.krause import krause_lift
from resonant.functional.lift import Lift
from resonant.functional.neighborhood import visible
from resonant.functional.position import sinusoidal_encoding
from resonant.functional.softmax import softmax_lift
from resonant.nn import (
    ClockAttention,
    KrauseAttention,
    LearnedPosition,
    LinearAttention,
    MixtureAttention,
    MorletPosition,
    PhaseAdapter,
    RelativeMorletPosition,
    RotaryPosition,
    SinusoidalPosition,
    attention,
)
from resonant.testing import draw

from .enrolled import CROSS, EMBED, HEADS, MODULES, inputs, made


@pytest.mark.parametrize("name", [*MODULES, *CROSS])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("side", [0, -1])
def test_a_bad_batch_whose_step_is_skipped_leaves_no_trace(
    name: str, bad: float, side: int
) -> None:
    """In training, forward and backward; then the step is skipped, and evaluation is as before."""
    module, good = made(name), inputs(name)
    reference = module.eval()(*good)[0]
    before = copy.deepcopy(module.state_dict())
    broken = [x.clone() for x in good]
    broken[side][0, 2, 3] = bad
    output = module.train()(*broken)[0]
    output.square().mean().backward()
    module.zero_grad()
    after = module.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(after[key], value), key
    assert torch.equal(module.eval()(*good)[0], reference)


@pytest.mark.parametrize("name", [*MODULES, *CROSS])
@pytest.mark.parametrize("sizes", [(0, 9), (2, 0), (0, 0)])
def test_an_empty_batch_gives_every_parameter_a_zero_gradient(
    name: str, sizes: tuple[int, int]
) -> None:
    module = made(name)
    if name in CROSS and sizes[1] == 0:
        given = (torch.randn(sizes[0], 0, EMBED), torch.randn(sizes[0], 7, EMBED))
    else:
        given = inputs(name, *sizes)
    output = module.train()(*given)[0]
    assert output.shape == (*sizes, EMBED)
    output.sum().backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.eq(0).all(), key


@pytest.mark.parametrize("big", [1e12, 1e15, 1e19, 1e20])
def test_a_key_far_out_leaves_no_more_than_one_at_the_limit(big: float) -> None:
    """Large finite numbers overflow, or not: evaluation is as it was, but for rounding."""
    module, good = made("krause"), inputs("krause")[0]
    reference = module.eval()(good)[0]
    broken = good.clone()
    broken[0, 2] = big
    module.train()(broken)
    torch.testing.assert_close(module.eval()(good)[0], reference, atol=1e-5, rtol=1e-5)


def test_origin_follows_keys_far_from_zero_in_every_precision() -> None:
    """Also with padding in float16, whose sums would overflow."""
    for dtype in (torch.float32, torch.float16):
        module = made("krause").to(dtype).train()
        assert isinstance(module, KrauseAttention)
        keys = torch.full((64, HEADS, 2048, 4), 3.0, dtype=dtype)
        padding = torch.zeros(64, 2048, dtype=torch.bool)
        padding[:, -1] = True
        for _ in range(60):
            module.observe(keys, padding)
        torch.testing.assert_close(
            module.origin.float(), torch.full((HEADS, 4), 3.0), atol=0.05, rtol=0
        )


def test_float_masks_of_linear_attention_weigh_keys() -> None:
    """In nats, with a gradient, as those of softmax do."""
    module, x = made("linear").eval(), inputs("linear")[0]
    bias = torch.zeros(2, 9)
    bias[0, 2], bias[1, 4] = -2.0, 0.7
    bias[1, 7:] = -math.inf
    bias.requires_grad_()
    output, weights = module(x, key_padding_mask=bias, need_weights=True)
    plain = module(x, key_padding_mask=bias.detach().isinf(), need_weights=True)[1]
    expected = plain * bias.detach().exp()[:, None, None]
    # With positions weights are not normalized by their own sum: their ratios are what a bias says.
    ratio = weights / expected
    real = expected != 0
    first = ratio[..., :1].expand_as(ratio)
    torch.testing.assert_close(ratio[real], first[real], atol=1e-4, rtol=1e-4)
    output.square().sum().backward()
    assert bias.grad is not None
    assert bias.grad[0].ne(0).any()


@pytest.mark.parametrize("least", [-math.inf, torch.finfo(torch.float32).min, -1e9])
def test_rows_of_one_key_by_any_number_that_hides(least: float) -> None:
    drawn = draw(mechanism("krause"), 24, 24, batch=1, dtype=torch.float32)
    key = drawn.key.detach().clone()
    key[:, :, 0] *= 100
    query = drawn.query.detach().requires_grad_()
    lift = mechanism("krause").lift(
        query, key, drawn.value, **{n: x.detach() for n, x in drawn.scalars.items()}
    )
    mask = torch.zeros(24, 24).masked_fill(torch.ones(24, 24, dtype=torch.bool).triu(1), least)
    output = attend(lift, attn_mask=mask)
    (gradient,) = torch.autograd.grad(output[:, :, 0].square().sum(), query)
    assert gradient.eq(0).all()
    hidden = attend(lift, attn_mask=torch.full((24, 24), -1e9))
    assert hidden.isfinite().all()
    assert hidden.ne(0).any()  # large numbers that hide all keys hide none of them more


def test_padding_of_nan_moves_no_origin_and_nan_is_no_padding() -> None:
    module = made("krause").train()
    x = inputs("krause")[0]
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 6:] = True
    x[padding] = math.nan
    module(x, key_padding_mask=padding)
    assert isinstance(module, KrauseAttention)
    assert module.origin.isfinite().all()
    assert module.origin.abs().max() > 0
    bias = torch.zeros(2, 9)
    bias[1, 4] = math.nan
    output = module.eval()(inputs("krause")[0], key_padding_mask=bias)[0]
    assert output[0].isfinite().all()
    assert output[1].isnan().all()


@pytest.mark.parametrize("neighborhood", [Full(), Causal(), Causal(4), Band(3)])
@pytest.mark.parametrize("top_k", [None, 3])
def test_a_key_bias_that_is_no_number_comes_out(neighborhood: Any, top_k: int | None) -> None:
    """It is not "blocked": every query that sees the key is not a number.

    On paths whose mask is added to the scores others may be, too, as in SDPA itself.
    """
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 12, 8, generator=generator) for _ in range(3))
    bias = torch.zeros(1, 1, 12)
    bias[..., 5] = math.nan
    seen = attend(Lift(q, k, v), neighborhood, path="materialized")
    for path in ("auto", "materialized"):
        output = attend(Lift(q, k, v, bias), neighborhood, top_k=top_k, path=path)
        for query in range(12):
            sees = {
                "Full": True,
                "Causal": query >= 5 and (neighborhood == Causal() or query < 9),
                "Band": abs(query - 5) <= 3,
            }[type(neighborhood).__name__]
            if sees or path == "materialized":
                assert bool(output[0, :, query].isnan().all()) == sees, (path, query)
            if not sees and top_k is None and path == "materialized":
                torch.testing.assert_close(output[0, :, query], seen[0, :, query])


# ---- top-k --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [16, 64, 256])
@pytest.mark.parametrize("count", [23, 130])
@pytest.mark.parametrize("neighborhood", [Full(), Causal(), Causal(20)])
def test_equal_keys_are_treated_alike_on_every_path(
    dim: int, count: int, neighborhood: Any
) -> None:
    """The full pass, whatever its blocks, and one query at a time keep the same keys."""
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        query = torch.randn(1, 1, count, dim, generator=generator)
        key = torch.randn(1, 1, 1, dim, generator=generator).expand(1, 1, count, dim)
        value = torch.randn(1, 1, count, dim, generator=generator)
        origin = torch.randn(1, dim, generator=generator)
        for sigma, shift in itertools.product((2.5, 0.3), (None, origin)):
            options = {"top_k": 2, "neighborhood": neighborhood, "origin": shift}
            whole = krause_attention(query, key, value, sigma, **options)
            last = krause_attention(query[:, :, -1:], key, value, sigma, **options)
            torch.testing.assert_close(whole[:, :, -1:], last, atol=2e-4, rtol=1e-4)


def test_ties_are_no_wider_than_rounding() -> None:
    """Keys that differ by more than rounding are still told apart."""
    key = torch.zeros(1, 1, 8, 4)
    key[..., 0] = torch.linspace(1.0, 1.5, 8)
    query, value = torch.ones(1, 1, 1, 4), torch.eye(8).reshape(1, 1, 8, 8)
    output = krause_attention(query, key, value, 1.0, top_k=1)
    assert int((output > 0).sum()) == 1


# ---- linear attention ---------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_positions_of_linear_attention_matter_by_their_differences(causal: bool) -> None:
    module = attention("linear", EMBED, HEADS, position=RotaryPosition(4)).double().eval()
    x = inputs("linear")[0].double()
    options = {"is_causal": causal}
    alone, weights = module(x, need_weights=True, **options)
    junk = torch.randn(2, 6, EMBED, dtype=torch.float64)
    padding = torch.arange(15).expand(2, 15) < 6
    padded, _ = module(torch.cat([junk, x], 1), key_padding_mask=padding, **options)
    torch.testing.assert_close(padded[:, 6:], alone, atol=1e-12, rtol=1e-12)
    heads = module.get_submodule("v_proj")(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    by_hand = module.get_submodule("out_proj")(
        (weights.double() @ heads).transpose(1, 2).flatten(2)
    )
    torch.testing.assert_close(by_hand, alone, atol=1e-6, rtol=1e-6)
    without = attention("linear", EMBED, HEADS).double().eval()
    without.load_state_dict(module.state_dict())
    assert (without(x, **options)[0] - alone).abs().max() > 1e-3


def test_what_linear_attention_would_drop_is_refused() -> None:
    with pytest.raises(ValueError, match="a position that adds to logits has no meaning"):
        LinearAttention(EMBED, HEADS, position=RelativeMorletPosition(4, HEADS))


# ---- dtypes -------------------------------------------------------------------------------------


def test_positions_have_the_dtype_asked_for() -> None:
    place = torch.arange(5000)
    exact = torch.outer(place.double(), 10_000.0 ** (-torch.arange(0, 8, 2).double() / 8))
    rotary = RotaryPosition(8).double()
    torch.testing.assert_close(rotary.angle(place, torch.float64), exact, rtol=1e-14, atol=1e-12)
    assert rotary.angle(place, torch.bfloat16).dtype == torch.float32
    encoded = sinusoidal_encoding(place.double(), 8)
    assert encoded.dtype == torch.float64
    torch.testing.assert_close(encoded[:, 1::2], exact.cos(), rtol=1e-12, atol=1e-12)
    assert sinusoidal_encoding(place, 8).dtype == torch.float32
    rows = place.unsqueeze(0)
    for module in (SinusoidalPosition(8), MorletPosition(8), LearnedPosition(8, 5000)):
        assert module.double()(rows).dtype == torch.float64
    torch.testing.assert_close(SinusoidalPosition(8).double()(rows)[0], encoded)
    assert list(SinusoidalPosition(8).state_dict()) == []


QUANTIZED = [name for name in MODULES if name != "sink"] + ["clock frozen", "mixture"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_modules_work(name: str) -> None:
    module = made(name).eval()
    expected = module(*inputs(name))[0]
    quantized = torch.ao.quantization.quantize_dynamic(module)
    assert any("quantized" in type(m).__module__ for m in quantized.modules())
    output = quantized(*inputs(name))[0]
    assert output.isfinite().all()
    assert (output - expected).abs().max() < 0.2 * expected.abs().max() + 0.05


@pytest.mark.parametrize("name", [*MODULES, *CROSS])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_modules_work(name: str, dtype: torch.dtype) -> None:
    module = made(name).eval()
    expected = module(*inputs(name))[0]
    output = module.to(dtype)(*(x.to(dtype) for x in inputs(name)))[0]
    assert output.dtype == dtype
    assert (output.float() - expected).abs().max() < 0.1 * expected.abs().max() + 0.05


def test_the_fused_path_is_what_these_laws_ran_on() -> None:
    with record_paths() as paths:
        made("krause")(*inputs("krause"))
    assert paths == ["fused"]
    ones = torch.ones(1, 1, 2, 4)
    assert krause_lift(ones, ones, ones, 1.0).key.shape[-1] == 5


# ---- masks that say what the neighbourhood says -------------------------------------------------


def paths_of(call: Callable[[], Any]) -> list[str]:
    with record_paths() as paths:
        call()
    return paths


@pytest.mark.parametrize("window", [None, 1, 5, 64])
@pytest.mark.parametrize("sizes", [(30, 30), (20, 30), (30, 20), (3, 40)])
@pytest.mark.parametrize("kind", ["bool", "float", "expanded"])
def test_a_mask_that_says_what_the_neighborhood_says_costs_nothing(
    window: int | None, sizes: tuple[int, int], kind: str
) -> None:
    queries, keys = sizes
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, n, 8, generator=generator) for n in (queries, keys, keys))
    taken = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    mask = {
        "bool": taken,
        "float": torch.zeros(queries, keys).masked_fill(~taken, -math.inf),
        "expanded": taken.expand(2, 2, queries, keys),
    }[kind]
    lift = krause_lift(q, k, v, 2.0)

    def run(given: Tensor | None, path: str = "auto") -> Tensor:
        return attend(lift, Causal(window), attn_mask=given, path=path)  # type: ignore[arg-type]

    assert paths_of(lambda: run(mask)) == paths_of(lambda: run(None))
    assert torch.equal(run(mask), run(None))
    torch.testing.assert_close(run(mask), run(mask, "materialized"), atol=1e-5, rtol=1e-5)
    for row in (queries - 1, max(queries - keys, 0)):  # one entry less, anywhere, counts
        less = taken.clone()
        less[row, row + keys - queries] = False
        if kind == "float":
            changed: Tensor = torch.zeros(queries, keys).masked_fill(~less, -math.inf)
        else:
            changed = less
        torch.testing.assert_close(run(changed), run(changed, "materialized"), atol=1e-5, rtol=1e-5)
        assert not torch.equal(run(changed), run(None))


def test_modules_know_the_usual_mask_too() -> None:
    module = KrauseAttention(EMBED, HEADS, neighborhood=Causal(4)).eval()
    x = inputs("krause", length=40)[0]
    triangle = torch.ones(40, 40, dtype=torch.bool).triu(1)
    floats = torch.zeros(40, 40).masked_fill(triangle, -math.inf)
    masks = (None, triangle, floats, triangle.expand(2 * HEADS, 40, 40))
    outputs = []
    for mask in masks:
        found = paths_of(
            lambda mask=mask: outputs.append(module(x, attn_mask=mask, is_causal=True)[0])
        )
        assert found == ["banded"]
    assert all(torch.equal(outputs[0], each) for each in outputs)


# ---- an outlying first key ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "krause", "softmax-sink"])
@pytest.mark.parametrize("neighborhood", [Causal(), Causal(16)])
@pytest.mark.parametrize("padded", [0, 3])
def test_an_outlying_first_key_stays_within_the_budget(
    name: str, neighborhood: Any, padded: int
) -> None:
    """Twice a plain run's error, three times for gradients; medians over draws."""
    of, shares = mechanism(name), []
    for seed in range(10):
        drawn = draw(of, 40, 40, batch=1, seed=seed)
        key = drawn.key.detach().clone()
        key[:, :, padded] *= 100
        tensors = [x.detach() for x in (drawn.query, key, drawn.value, *drawn.scalars.values())]
        real = torch.arange(40) >= padded
        weight = torch.randn(1, HEADS, 40, 6, generator=torch.Generator().manual_seed(seed))

        def run(path: str, dtype: torch.dtype, given=tensors, real=real, weight=weight) -> Any:
            wide = [x.float().to(dtype).requires_grad_() for x in given]
            if path == "plain":
                output = plain(name, wide, neighborhood, real)
            else:
                scalars = dict(zip(of.scalars, wide[3:], strict=True))
                mask = real[None, None, None] if padded else None
                lift = of.lift(*wide[:3], **scalars)
                output = attend(lift, neighborhood, attn_mask=mask)
            grads = torch.autograd.grad((output * weight.to(dtype)).sum(), wide)
            return [x.double() for x in (output, *grads)]

        exact = run("plain", torch.float64)
        ours, theirs = run("auto", torch.float32), run("plain", torch.float32)
        shares.append([share(*each) for each in zip(ours, theirs, exact, strict=True)])
    medians = torch.tensor(shares).median(0).values.tolist()
    assert medians[0] <= 2.0, medians
    assert max(medians[1:]) <= 3.0, medians


def share(ours: Tensor, theirs: Tensor, exact: Tensor) -> float:
    """The error of ours as a share of the plain one's, with the budget's floor."""
    size, error, allowed = (x.square().mean().sqrt() for x in (exact, ours - exact, theirs - exact))
    return (error / (allowed + torch.finfo(torch.float32).eps / 8 * size + 1e-30)).item()


def plain(name: str, tensors: list[Tensor], neighborhood: Any, real: Tensor) -> Tensor:
    """The direct formula, differences formed first."""
    query, key, value, *scalars = tensors
    key, value = (x.repeat_interleave(2, dim=1) for x in (key, value))
    if name == "krause":
        distance = (query.unsqueeze(-2) - key.unsqueeze(-3)).square().sum(-1)
        logits = -distance / (2 * scalars[0].reshape(1, -1, 1, 1).square())
    else:
        logits = query @ key.mT / query.shape[-1] ** 0.5
    allowed = visible(neighborhood, torch.arange(40), torch.arange(40))
    assert allowed is not None
    logits = logits.masked_fill(~(allowed & real), -math.inf)
    if name == "softmax-sink":
        sink = scalars[0].reshape(1, -1, 1, 1).expand(1, HEADS, 40, 1)
        return torch.cat([logits, sink], -1).softmax(-1)[..., :-1] @ value
    blind = (logits == -math.inf).all(-1, keepdim=True)
    return logits.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0) @ value


# ---- Gaussian locality, causal ------------------------------------------------------------------


@pytest.mark.parametrize("ell", [3.7, 64.0])
@pytest.mark.parametrize("padded", [0, 700])
def test_causal_locality_skips_keys_out_of_reach(ell: float, padded: int) -> None:
    """Value and gradients as materialized, the past equal to the bit whatever the future is."""
    length, cut = 2304, 1500
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, length, 8, generator=generator) for _ in range(3))
    real = (torch.arange(length) >= padded)[None, None, None]
    width = torch.tensor([ell, 1.5 * ell], requires_grad=True)

    def run(path: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = [x.clone().requires_grad_() for x in tensors]
        lift = gaussian_locality(softmax_lift(*given), width)
        output = attend(lift, Causal(), attn_mask=real, path=path)  # type: ignore[arg-type]
        return output, *torch.autograd.grad(output.square().sum(), [*given, width])

    ours, theirs = run("chunked", q, k, v), run("materialized", q, k, v)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4 * b.abs().max().item(), rtol=1e-3)
    for noise in (1.0, 1e3):
        other = [x.clone() for x in (q, k, v)]
        for x in other:
            x[:, :, cut:] = noise * torch.randn(1, 2, length - cut, 8, generator=generator)
        assert torch.equal(run("chunked", *other)[0][:, :, :cut], ours[0][:, :, :cut])


def test_memory_of_causal_locality_is_linear() -> None:
    """Saved for the backward pass: twice the length, twice the bytes."""

    def saved(length: int) -> int:
        seen: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        q, k, v = (torch.randn(1, 1, length, 8, requires_grad=True) for _ in range(3))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            output = attend(gaussian_locality(softmax_lift(q, k, v), 16.0), Causal())
        del output
        return sum(seen.values())

    small, large = saved(4096), saved(8192)
    assert large < 2.3 * small


# ---- clocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["frozen", "density", "interval"])
@pytest.mark.parametrize("normalized", [True, False])
def test_the_ends_of_a_floor(score: Any, normalized: bool) -> None:
    """An infinite one gives the mean (intervals: by rate), continuously; a tiny one gradients."""
    generator = torch.Generator().manual_seed(0)
    rates = [torch.rand(1, 2, n, generator=generator) + 0.1 for n in (6, 9)]
    value = torch.randn(1, 2, 6, 4, generator=generator)
    source, target = (clock(r, normalized=normalized) for r in rates)
    expected = value.mean(2, keepdim=True)
    if score == "interval":
        share = rates[0] / rates[0].sum(-1, keepdim=True)
        expected = (value * share.unsqueeze(-1)).sum(2, keepdim=True)
    for floor, tolerance in ((math.inf, 1e-5), (1e30, 1e-5), (1e4, 1e-3)):
        output = clock_attention(target, source, value, score=score, floor=floor, diffusion=0.0)
        torch.testing.assert_close(
            output, expected.expand_as(output), atol=tolerance, rtol=tolerance
        )
    for floor in (1e-12, 1e-6):
        eps = torch.tensor([floor, floor], requires_grad=True)
        tick = rates[1].clone().requires_grad_()
        moving = clock(tick, normalized=normalized)
        output = clock_attention(moving, source, value, score=score, floor=eps, diffusion=1e-6)
        assert output.isfinite().all()
        gradients = torch.autograd.grad(output.square().sum(), (eps, tick))
        assert all(g.isfinite().all() for g in gradients)


WIDTHS: list[tuple[str, Callable[[], nn.Module], int]] = [
    ("softmax", lambda: attention("softmax", 16, 2, kdim=6), 6),
    ("krause", lambda: attention("krause", 16, 2, kdim=6, vdim=6), 6),
    ("kuramoto", lambda: PhaseAdapter(16, 2, kdim=6), 6),
    ("clock", lambda: ClockAttention(16, 2, kdim=6, vdim=6), 6),
    ("mixture", lambda: MixtureAttention(16, 2, vdim=6), 6),
    ("linear", lambda: attention("linear", 16, 2), 16),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "make", "right"), WIDTHS, ids=[w[0] for w in WIDTHS])
def test_wrong_widths_are_named(name: str, make: Callable[[], nn.Module], right: int) -> None:
    del name
    module, x = make(), torch.randn(2, 5, 16)
    value = torch.randn(2, 7, 16 if right == 16 else 6)
    with pytest.raises(
        ValueError, match=r"the query has 9 features, but this module was made for 16"
    ):
        module(torch.randn(2, 5, 9), value, value)
    wrong = torch.randn(2, 7, 11)
    with pytest.raises(ValueError, match=r"the (key|value) has 11 features, .* made for"):
        module(x, wrong, wrong)


def test_durations_of_soft_weights() -> None:
    weights = torch.rand(2, 3, 11, 4, generator=torch.Generator().manual_seed(0)).softmax(-1)
    real = torch.ones(2, 11, dtype=torch.bool)
    real[1, 7:] = False
    soft = durations(weights, real)
    assert soft.shape == (2, 3, 4)
    torch.testing.assert_close(soft.sum(-1), torch.tensor([[11.0] * 3, [7.0] * 3]))
    torch.testing.assert_close(soft[1, 0], weights[1, 0, :7].sum(0))
    whole = durations(weights, real, whole=True)
    assert torch.equal(whole.sum(-1), torch.tensor([[11.0] * 3, [7.0] * 3]))
    assert torch.equal(whole, whole.round())
    assert (whole - soft).abs().max() < 1.0
    low = torch.rand(1, 3000, 7, generator=torch.Generator().manual_seed(1)).softmax(-1)
    assert durations(low.bfloat16(), whole=True).sum() == low.bfloat16().float().sum().round()
    hard = F.one_hot(torch.tensor([[0, 0, 1, 3, 3, 3]]), 4).float()
    assert durations(hard, whole=True).tolist() == [[2.0, 1.0, 0.0, 3.0]]


@pytest.mark.usefixtures("unchecked")
def test_durations_name_a_mask_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"query_mask must have shape .* = \(2, 11\)"):
        durations(torch.rand(2, 3, 11, 4), torch.ones(2, 5, dtype=torch.bool))


# ---- wrappers of modules ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MODULES, *CROSS])
def test_modules_work_inside_dataparallel(name: str) -> None:
    """On the CPU it calls the module itself; replicas keep scalars, positions and gates."""
    module = made(name).eval()
    expected = module(*inputs(name))[0]
    assert torch.equal(nn.DataParallel(module)(*inputs(name))[0], expected)


@pytest.mark.parametrize("name", [*MODULES, *CROSS])
def test_modules_work_with_adapters_and_learn_beside_them(name: str) -> None:
    """LoRA on whatever projections there are: the same at its start, gradients to its updates."""
    module = nn.ModuleDict({"attention": made(name)})
    projections = [n for n, m in module.named_modules() if isinstance(m, nn.Linear)]
    expected = module["attention"].eval()(*inputs(name))[0]
    config = peft.LoraConfig(r=2, target_modules=[n.split(".", 1)[1] for n in projections])
    adapted = peft.get_peft_model(module, config)
    attending = adapted.get_submodule("base_model.model.attention").eval()
    torch.testing.assert_close(attending(*inputs(name))[0], expected, atol=1e-6, rtol=1e-5)
    attending.train()(*inputs(name))[0].square().sum().backward()
    updates = {n: p for n, p in adapted.named_parameters() if "lora_B" in n}
    assert len(updates) == len(projections)
    assert all(p.grad is not None for p in updates.values())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in updates.values())


@pytest.mark.parametrize("name", [*MODULES, *CROSS])
def test_what_is_learned_comes_back(name: str) -> None:
    """A state saved and loaded into a fresh module gives the same outputs, bit for bit."""
    module = made(name)
    module.train()(*inputs(name))  # buffers move
    torch.manual_seed(1)
    fresh = (MODULES | CROSS)[name]()
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh.eval()(*inputs(name))[0], module.eval()(*inputs(name))[0])


@pytest.mark.parametrize("name", [*MODULES, *CROSS])
def test_every_parameter_has_a_gradient(name: str) -> None:
    """Nothing that is learned is left out of what a module computes."""
    module = made(name).train()
    output = module(*inputs(name))[0]
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    (output * weight).sum().backward()
    idle = [
        key for key, p in module.named_parameters() if p.grad is None or p.grad.abs().max() == 0
    ]
    # A bias of keys is the same for all keys of a query where scores are inner products.
    plain = ("k_proj.bias",) if name in ("softmax", "gate") else ()
    assert [key for key in idle if key not in plain] == [], idle
