"""Position modules inside and outside attention: limits, off values, precision, errors."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch import nn

from resonant.functional import Causal
from resonant.functional.position import rotary_frequencies
from resonant.nn import (
    BiasedRotaryPosition,
    HeadPosition,
    KuramotoAttention,
    LearnedPosition,
    MorletPosition,
    OscillatorPosition,
    RelativeMorletPosition,
    RotaryPosition,
    SinusoidalPosition,
    attention,
)

EMBED, HEADS, DIM = 16, 4, 4


def build(name: str, position: HeadPosition | None, **options) -> Any:
    torch.manual_seed(0)
    return attention(name, EMBED, HEADS, position=position, **options).double()


@pytest.mark.parametrize("name", ["softmax", "krause", "softmax-sink"])
@pytest.mark.parametrize("convention", ["half", "interleaved"])
def test_relative_morlet_without_locality_is_rope(name: str, convention) -> None:
    x = torch.randn(2, 40, EMBED, dtype=torch.float64)
    morlet = RelativeMorletPosition(DIM, HEADS, ell=math.inf, convention=convention)
    rope = RotaryPosition(DIM, convention=convention)
    morlet.double().omega.value.data = rotary_frequencies(DIM)  # they start rounded to float32
    for neighborhood in (Causal(), Causal(7)):
        ours, theirs = (
            build(name, p, neighborhood=neighborhood)(x, need_weights=True) for p in (morlet, rope)
        )
        torch.testing.assert_close(ours[0], theirs[0], atol=1e-12, rtol=1e-12)
        assert torch.equal(ours[1], theirs[1])


def test_off_values_leave_exactly_no_position() -> None:
    """Every float of a signature has an off value, and at it nothing is left."""
    x = torch.randn(2, 20, EMBED, dtype=torch.float64)
    for kind in (
        RotaryPosition,
        BiasedRotaryPosition,
        RelativeMorletPosition,
        SinusoidalPosition,
        OscillatorPosition,
    ):
        parameters = inspect.signature(kind).parameters.values()
        assert {p.name for p in parameters if isinstance(p.default, float)} == set(kind.OFF)
    off = RelativeMorletPosition(DIM, HEADS, ell=math.inf, base=math.inf)
    still = RotaryPosition(DIM, base=math.inf)  # which is no position: see test_attention
    unbiased = BiasedRotaryPosition(DIM, HEADS, amplitude=0.0, base=math.inf)
    for name in ("softmax", "krause"):
        weights = [
            build(name, p, neighborhood=Causal()).eval()(x, need_weights=True)[1]
            for p in (off, still, None, OscillatorPosition(HEADS, amplitude=0.0), unbiased)
        ]
        assert torch.equal(weights[4], weights[1])
        torch.testing.assert_close(weights[3], weights[2], atol=1e-15, rtol=1e-14)
        assert torch.equal(weights[0], weights[1])
        # Turned heads lie otherwise in memory, and the product is summed in another order.
        torch.testing.assert_close(weights[0], weights[2], atol=1e-15, rtol=1e-14)
    same = SinusoidalPosition(8, base=math.inf)(torch.arange(9).unsqueeze(0))
    assert torch.equal(same, same[:, :1].expand_as(same))


@pytest.mark.parametrize("convention", ["half", "interleaved"])
def test_biased_rotary_without_content_is_a_sum_of_cosines(convention) -> None:
    """And each cosine has its amplitude in nats, and its maximum as far back as the delay."""
    position = BiasedRotaryPosition(
        DIM, 2, num_key_value_heads=1, amplitude=0.4, delays=(0, 3), convention=convention
    ).double()
    nothing = torch.zeros(1, 2, 12, DIM, dtype=torch.float64)
    places = torch.arange(12)
    query, key = position.shift(nothing, nothing[:, :1])
    query, key = (position.rotate(each, places) for each in (query, key))
    distance = places[:, None] - places - torch.tensor([0, 3])[:, None, None]
    waves = (distance[..., None] * rotary_frequencies(DIM).double()).cos()
    scores = query @ key.transpose(-1, -2) / math.sqrt(DIM)
    torch.testing.assert_close(scores[0], 0.4 * waves.sum(-1), atol=1e-6, rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_biased_rotary_says_for_which_heads_it_was_made() -> None:
    x = torch.randn(1, 5, EMBED, dtype=torch.float64)
    for made, options in (
        (BiasedRotaryPosition(DIM, 2), {}),
        (BiasedRotaryPosition(DIM, 1), {}),
        (BiasedRotaryPosition(2 * DIM, HEADS), {}),
        (BiasedRotaryPosition(DIM, HEADS), {"num_key_value_heads": 2}),
    ):
        with pytest.raises(ValueError, match="this position was made for"):
            build("softmax", made, **options)(x)
    refused: list[tuple[Any, type[Exception], str]] = [
        (lambda: BiasedRotaryPosition(8, 4, num_key_value_heads=3), ValueError, "must divide"),
        (lambda: BiasedRotaryPosition(8, 4, num_key_value_heads=0), ValueError, "must divide"),
        (lambda: BiasedRotaryPosition(8, 4, amplitude=math.nan), ValueError, "amplitude is at"),
        (lambda: OscillatorPosition(0), ValueError, "num_heads is at least 1"),
        (lambda: OscillatorPosition(4, RotaryPosition(8)), ValueError, "number of oscillators"),  # type: ignore[arg-type]
        (lambda: OscillatorPosition(4, amplitude=math.nan), ValueError, "finite number of nats"),
        (lambda: OscillatorPosition(4, longest=math.inf), ValueError, "and finite"),  # type: ignore[arg-type]
        (lambda: OscillatorPosition(4, delays=[0.5, 1, 2, 3]), ValueError, "whole number"),  # type: ignore[list-item]
        (lambda: OscillatorPosition(4, within=64), TypeError, "within is a position"),  # type: ignore[arg-type]
    ]
    for make, kind, why in refused:
        with pytest.raises(kind, match=why):
            make()


def test_coupling_refuses_what_adds_to_queries_and_keys() -> None:
    biased = BiasedRotaryPosition(2 * DIM, HEADS)
    for position in (biased, OscillatorPosition(HEADS, within=biased)):
        with pytest.raises(ValueError, match=r"BiasedRotaryPosition(.|\n)*use RotaryPosition"):
            KuramotoAttention(EMBED, HEADS, position=position)


def test_locality_makes_near_tokens_weigh_more() -> None:
    x = torch.randn(1, 1, EMBED, dtype=torch.float64).expand(1, 30, EMBED)
    position = RelativeMorletPosition(DIM, HEADS, ell=3.7, base=math.inf)
    _, weights = build("softmax", position, neighborhood=Causal())(x, need_weights=True)
    distance = torch.arange(30.0, dtype=torch.float64).flip(0)
    expected = (-distance.square() / (2 * 3.7**2)).softmax(-1)
    for head in range(HEADS):
        torch.testing.assert_close(weights[0, head, -1], expected, atol=1e-6, rtol=1e-5)


def test_frequencies_and_widths_are_learned_and_stay_float32() -> None:
    module: Any = attention(
        "softmax", EMBED, HEADS, position=RelativeMorletPosition(DIM, HEADS, ell=5.0)
    )
    names = {n for n, _ in module.named_parameters() if n.startswith("position")}
    assert names == {"position.omega.value", "position.ell.value"}
    module(torch.randn(2, 30, EMBED), is_causal=True)[0].square().sum().backward()
    for name in names:
        gradient = module.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
    omega = module.get_parameter("position.omega.value").detach().clone()
    low = module.to(torch.bfloat16)
    assert torch.equal(low.get_parameter("position.omega.value"), omega)
    assert low.q_proj.weight.dtype == torch.bfloat16
    assert low(torch.randn(2, 30, EMBED).bfloat16(), is_causal=True)[0].dtype == torch.bfloat16
    morlet = MorletPosition(8).to(torch.float16)
    assert {p.dtype for p in morlet.parameters()} == {torch.float32}
    assert {p.dtype for p in MorletPosition(8).double().parameters()} == {torch.float64}


def test_encodings_to_add_have_the_shape_of_embeddings_and_learn() -> None:
    position = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 2]])
    for module in (SinusoidalPosition(8), LearnedPosition(8, 16), MorletPosition(8)):
        encoding = module(position)
        assert encoding.shape == (2, 4, 8)
        assert torch.equal(encoding[0, 1], encoding[1, 2])
        for parameter in module.parameters():
            gradient = torch.autograd.grad(module(position).square().sum(), parameter)[0]
            assert gradient.isfinite().all()
    assert "sigma from 1.68 to 5.00 tokens" in repr(MorletPosition(64))


def test_a_position_of_one_s_own_takes_one_method() -> None:
    class Reversed(HeadPosition):
        def rotate(self, features, position):
            return features * (-1.0) ** position[:, None]

    x = torch.randn(1, 9, EMBED, dtype=torch.float64)
    output, _ = build("softmax", Reversed(), neighborhood=Causal(4))(x)
    assert output.shape == x.shape


@pytest.mark.usefixtures("unchecked")
def test_bad_options_are_refused() -> None:
    for build_position, why in [
        (lambda: RotaryPosition(8, convention="neox"), "convention is half or interleaved"),  # type: ignore[arg-type]
        (lambda: RotaryPosition(7), "dim must be even"),
        (lambda: RelativeMorletPosition(8, 2, ell=0.0), "ell is a width in positions"),
        (lambda: RelativeMorletPosition(8, 2, convention="x"), "convention is"),  # type: ignore[arg-type]
        (lambda: LearnedPosition(8, 0), "max_length counts positions"),
        (lambda: MorletPosition(7), "embed_dim is even, not 7"),
        (lambda: SinusoidalPosition(8, base=0.5), "base must be above 1"),
    ]:
        with pytest.raises(ValueError, match=why):
            build_position()
    assert isinstance(RotaryPosition(8), nn.Module)
