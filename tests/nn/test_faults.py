"""Laws that every module is enrolled in, found by faults: each kind is closed for all of them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.functional import Band, Causal, Full, attend, krause_attention
from resonant.functional.attend import record_paths
from resonant.functional.krause import krause_lift
from resonant.functional.lift import Lift
from resonant.functional.position import sinusoidal_encoding
from resonant.nn import (
    ClockAttention,
    EnergyGate,
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

EMBED, HEADS = 16, 4
Build = Callable[[], nn.Module]


def with_gate(name: str, **options: Any) -> nn.Module:
    return attention(name, EMBED, HEADS, gate=EnergyGate(EMBED, HEADS), **options)


def phases(**options: Any) -> nn.Module:
    return PhaseAdapter(EMBED, HEADS, phases=8, **options)


MODULES: dict[str, Build] = {
    "softmax": lambda: attention("softmax", EMBED, HEADS),
    "sink": lambda: attention("softmax-sink", EMBED, HEADS),
    "krause": lambda: attention("krause", EMBED, HEADS),
    "krause causal": lambda: attention("krause", EMBED, HEADS, neighborhood=Causal()),
    "krause window": lambda: attention("krause", EMBED, HEADS, neighborhood=Causal(4)),
    "krause top-k": lambda: attention("krause", EMBED, HEADS, top_k=3),
    "krause band": lambda: attention("krause", EMBED, HEADS, neighborhood=Band(2)),
    "gate": lambda: with_gate("softmax"),
    "gate on a sink": lambda: with_gate("softmax-sink", neighborhood=Causal()),
    "gate on krause": lambda: with_gate("krause", neighborhood=Causal(5)),
    "rotary": lambda: attention("softmax", EMBED, HEADS, position=RotaryPosition(4)),
    "morlet": lambda: attention("krause", EMBED, HEADS, position=RelativeMorletPosition(4, HEADS)),
    "kuramoto": phases,
    "kuramoto with lag": lambda: phases(lag=True, steps=2, gate=EnergyGate(16, HEADS)),
    "kuramoto static": lambda: phases(phase_gate="static"),
    "linear": lambda: attention("linear", EMBED, HEADS, position=RotaryPosition(4)),
}
CROSS: dict[str, Build] = {
    **{
        f"clock {s}": lambda s=s: ClockAttention(EMBED, HEADS, score=s)
        for s in ("frozen", "density", "interval")
    },
    "clock running": lambda: ClockAttention(EMBED, HEADS, normalized=False, measure=True),
    "clock gated": lambda: ClockAttention(EMBED, HEADS, gate=EnergyGate(EMBED, HEADS)),
    "mixture": lambda: MixtureAttention(EMBED, HEADS),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = (MODULES | CROSS)[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def inputs(name: str, batch: int = 2, length: int = 9) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(batch, length, EMBED, generator=generator)
    return (x, torch.randn(batch, 7, EMBED, generator=generator)) if name in CROSS else (x,)


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
