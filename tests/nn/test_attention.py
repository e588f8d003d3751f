"""The modules: words and masks of MultiheadAttention, drop-in law, off values, errors."""

import copy
import inspect
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.functional import Band, Causal, Full, mechanisms
from resonant.nn import (
    Attention,
    HeadScalar,
    KrauseAttention,
    RotaryPosition,
    SoftmaxAttention,
    attention,
)

NAMES = sorted(mechanisms())
PROJECTED = [name for name in NAMES if not mechanisms()[name].couples_phases]
EMBED, HEADS = 16, 4


def build(name: str, **options) -> Any:
    torch.manual_seed(0)
    return attention(name, EMBED, HEADS, **options).double()


def tokens(batch: int, length: int, seed: int = 0, width: int = EMBED) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, width, generator=generator, dtype=torch.float64)


def as_multihead(ours: Attention) -> nn.MultiheadAttention:
    """PyTorch's module with the same weights."""
    theirs = nn.MultiheadAttention(EMBED, HEADS, batch_first=True).double()
    projections = (ours.q_proj, ours.k_proj, ours.v_proj)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
        theirs.out_proj.bias.copy_(ours.out_proj.bias)
    return theirs


def test_softmax_is_multihead_attention_with_every_mask() -> None:
    ours = build("softmax")
    theirs = as_multihead(ours)
    query, key = tokens(2, 7), tokens(2, 9, seed=1)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[0, 6:] = padding[1, :2] = True
    blocked = torch.rand(7, 9) > 0.7
    blocked[:, 3] = False
    added = torch.randn(2 * HEADS, 7, 9, dtype=torch.float64)
    soft_padding = torch.randn(2, 9, dtype=torch.float64).masked_fill(padding, -math.inf)
    cases = (
        {},
        {"key_padding_mask": padding},
        {"attn_mask": blocked},
        {"attn_mask": added},
        {"key_padding_mask": padding, "attn_mask": blocked},
        {"key_padding_mask": soft_padding, "attn_mask": added},
    )
    for masks in cases:
        output, weights = ours(query, key, key, need_weights=True, **masks)
        expected, expected_weights = theirs(query, key, key, average_attn_weights=False, **masks)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(weights, expected_weights, check_dtype=False)
        without, none = ours(query, key, key, **masks)
        torch.testing.assert_close(without, output)
        assert none is None


@pytest.mark.parametrize("name", NAMES)
def test_true_means_blocked(name: str) -> None:
    module, x = build(name), tokens(2, 9)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[:, 6:] = True
    ours, _ = module(x, key_padding_mask=padding)
    alone, _ = module(x[:, :6])
    torch.testing.assert_close(ours[:, :6], alone)
    causal = torch.ones(9, 9, dtype=torch.bool).triu(1)
    torch.testing.assert_close(module(x, attn_mask=causal)[0], module(x, is_causal=True)[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "path_options", [{}, {"top_k": 3}, {"neighborhood": Causal(4)}, {"neighborhood": Band(2)}]
)
def test_is_causal_intersects(name: str, path_options: dict) -> None:
    module, x = build(name, **path_options).eval(), tokens(1, 11)
    later = x.clone()
    later[:, 6:] = 100 * torch.randn(5, EMBED, dtype=torch.float64)
    before, after = (module(each, is_causal=True)[0][:, :6] for each in (x, later))
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", PROJECTED)
def test_cross_attention_with_two_widths_and_grouped_heads(name: str) -> None:
    module = build(name, kdim=6, vdim=5, num_key_value_heads=2)
    output, weights = module(
        tokens(2, 7), tokens(2, 9, width=6), tokens(2, 9, width=5), need_weights=True
    )
    assert output.shape == (2, 7, EMBED)
    assert weights.shape == (2, HEADS, 7, 9)
    assert module.k_proj.out_features == EMBED // 2


@pytest.mark.parametrize("name", NAMES)
def test_dropout_only_in_training(name: str) -> None:
    module, x = build(name, dropout=0.5), tokens(1, 9)
    assert not torch.equal(module(x)[0], module(x)[0])
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])


@pytest.mark.parametrize("name", PROJECTED)
def test_every_float_of_the_signature_has_an_off(name: str) -> None:
    """At its off value a parameter leaves exactly the baseline."""
    module: Any = attention(name, EMBED, HEADS)
    floats = {
        p.name
        for p in inspect.signature(type(module)).parameters.values()
        if (p.annotation in (float, "float") or isinstance(p.default, float))
        and p.kind is not inspect.Parameter.VAR_KEYWORD
    }
    floats |= {
        p.name
        for p in inspect.signature(Attention).parameters.values()
        if (p.annotation in (float, "float") or isinstance(p.default, float))
        and p.kind is not inspect.Parameter.VAR_KEYWORD
    }
    off = {**module.OFF, **{n: s.off for n, s in module.mechanism.scalars.items()}}
    assert floats | set(module.mechanism.scalars) == set(off)


def test_dropout_off_is_no_dropout() -> None:
    x = tokens(1, 9)
    for name in NAMES:
        off = build(name, dropout=Attention.OFF["dropout"])
        assert torch.equal(off.train()(x)[0], build(name).eval()(x)[0])


def test_sigma_off_is_the_mean() -> None:
    module, x = build("krause", sigma=KrauseAttention.OFF["sigma"]), tokens(2, 9)
    output, weights = module(x, need_weights=True)
    assert torch.equal(weights, torch.full((2, HEADS, 9, 9), 1 / 9, dtype=torch.float64))
    mean = module.out_proj(module.v_proj(x).mean(1, keepdim=True)).expand_as(output)
    torch.testing.assert_close(output, mean)


def test_rotary_off_is_no_position() -> None:
    x = tokens(1, 9)
    floats = {
        p.name
        for p in inspect.signature(RotaryPosition).parameters.values()
        if isinstance(p.default, float)
    }
    assert floats == set(RotaryPosition.OFF)
    for name in NAMES:
        off = build(name, position=RotaryPosition(4, base=RotaryPosition.OFF["base"]))
        assert torch.equal(off(x)[0], build(name)(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_rotary_sees_relative_positions_only(name: str) -> None:
    """With a repeated token every row of weights is the shifted row above it."""
    module = build(name, position=RotaryPosition(4), neighborhood=Causal(5))
    _, weights = module(tokens(1, 1).expand(1, 12, -1), need_weights=True)
    for t in range(5, 11):
        torch.testing.assert_close(weights[..., t + 1, 1:], weights[..., t, :-1])


def test_rotary_frequencies_stay_float32() -> None:
    position = RotaryPosition(8).to(torch.bfloat16)
    x = torch.randn(1, 1, 3000, 8)
    turned = position.rotate(x.bfloat16(), torch.arange(3000))
    exact = RotaryPosition(8).rotate(x.bfloat16().double(), torch.arange(3000))
    torch.testing.assert_close(turned.double(), exact, atol=3e-2, rtol=1e-2)


ENCODER: dict[str, Any] = {
    "d_model": EMBED,
    "nhead": HEADS,
    "dim_feedforward": 8,
    "batch_first": True,
    "dropout": 0.0,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_drops_into_the_encoder(name: str, mode: str) -> None:
    layer: Any = nn.TransformerEncoderLayer(**ENCODER).double()
    layer.self_attn = build(name, top_k=3)
    encoder: Any = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
    getattr(encoder, mode)()
    calls = []
    for each in encoder.layers:
        each.self_attn.register_forward_hook(lambda *_: calls.append(1))
    x = tokens(2, 9)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[:, 6:] = True
    with torch.inference_mode(mode == "eval"):
        padded = encoder(x, src_key_padding_mask=padding)[:, :6]
        alone = encoder(x[:, :6])
    assert len(calls) == 4, "PyTorch's own attention ran instead of ours"
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_drops_into_the_decoder(name: str, mode: str) -> None:
    layer: Any = nn.TransformerDecoderLayer(**ENCODER).double()
    layer.self_attn, layer.multihead_attn = build(name), build(name)
    decoder = nn.TransformerDecoder(layer, num_layers=2)
    getattr(decoder, mode)()
    target, memory = tokens(2, 7), tokens(2, 9, seed=1)
    causal = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    later = target.clone()
    later[:, 4:] = 5.0
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[:, 6:] = True
    options = {"tgt_mask": causal, "tgt_is_causal": True, "memory_key_padding_mask": padding}
    with torch.inference_mode(mode == "eval"):
        before = decoder(target, memory, **options)[:, :4]
        after = decoder(later, memory, **options)[:, :4]
        short = decoder(target, memory[:, :6], tgt_mask=causal, tgt_is_causal=True)[:, :4]
    torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(before, short, atol=1e-6, rtol=1e-6)


def test_softmax_in_the_encoder_is_the_encoder() -> None:
    theirs: Any = nn.TransformerEncoderLayer(**ENCODER).double()
    ours = copy.deepcopy(theirs)
    module = build("softmax")
    theirs.self_attn = as_multihead(module)
    ours.self_attn = module
    x = tokens(2, 9)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_origin_follows_keys_in_training_alone_and_changes_no_output() -> None:
    torch.manual_seed(0)
    module, x = KrauseAttention(EMBED, HEADS).double(), tokens(4, 9) + 3
    padding = torch.zeros(4, 9, dtype=torch.bool)
    padding[:, 5:] = True
    reference, _ = module.eval()(x)
    assert module.origin.eq(0).all()
    module.train()
    for _ in range(200):
        module(x, key_padding_mask=padding)
    keys = module.k_proj(x[:, :5]).unflatten(-1, (HEADS, -1)).mean(dim=(0, 1))
    torch.testing.assert_close(module.origin, keys.detach(), atol=1e-6, rtol=1e-6)
    moved = module.origin.clone()
    output, _ = module.eval()(x)
    assert torch.equal(module.origin, moved)
    torch.testing.assert_close(output, reference)


def test_learned_scalars_are_parameters_of_submodules_per_head() -> None:
    module = KrauseAttention(EMBED, HEADS, sigma=4.0)
    width = module.scalars["sigma"]
    assert isinstance(width, HeadScalar)
    torch.testing.assert_close(width(), torch.full((HEADS,), 4.0))
    module(torch.randn(1, 5, EMBED))[0].square().sum().backward()
    gradient = width.value.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"batch_first": False}, "batch_first=False is not supported"),
        ({"num_heads": 3}, "num_heads must divide embed_dim, but they are 3 and 16"),
        ({"num_key_value_heads": 3}, "must divide num_heads, but they are 3 and 4"),
        ({"dropout": 1.5}, "dropout is a probability"),
        ({"top_k": 0}, "top_k counts the keys to keep"),
    ],
)
def test_bad_options_are_refused(options: dict, why: str) -> None:
    arguments = {"embed_dim": EMBED, "num_heads": HEADS} | options
    with pytest.raises(ValueError, match=why):
        SoftmaxAttention(**arguments)


@pytest.mark.usefixtures("unchecked")
def test_bad_inputs_are_refused() -> None:
    module = SoftmaxAttention(EMBED, HEADS)
    with pytest.raises(ValueError, match="add a batch axis"):
        module(torch.randn(5, EMBED))
    with pytest.raises(
        ValueError, match=r"key_padding_mask must have shape \(batch, key\) = \(2, 5\)"
    ):
        module(torch.randn(2, 5, EMBED), key_padding_mask=torch.zeros(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"batch \* head = 8"):
        module(torch.randn(2, 5, EMBED), attn_mask=torch.zeros(4, 5, 5))
    with pytest.raises(ValueError, match="positive scalar must start above 0"):
        KrauseAttention(EMBED, HEADS, sigma=-1.0)
    with pytest.raises(ValueError, match="did you mean 'krause'"):
        attention("kruse", EMBED, HEADS)
    with pytest.raises(
        TypeError, match="softmax attention has no option or learned scalar 'sigma'"
    ):
        SoftmaxAttention(EMBED, HEADS, sigma=1.0)
    with pytest.raises(TypeError, match="did you mean 'neighborhood'"):
        KrauseAttention(EMBED, HEADS, neighbourhood=Causal())
    with pytest.raises(TypeError, match="a neighborhood is"):
        SoftmaxAttention(EMBED, HEADS, neighborhood="causal")
    assert SoftmaxAttention(EMBED, HEADS).neighborhood == Full()


@pytest.mark.parametrize("name", NAMES)
def test_copies_pickles_and_loads(name: str) -> None:
    module, x = build(name, position=RotaryPosition(4), neighborhood=Causal(5)), tokens(2, 9)
    module(x)
    module.eval()
    again = build(name, position=RotaryPosition(4), neighborhood=Causal(5)).eval()
    again.load_state_dict(module.state_dict())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), again):
        assert torch.equal(other(x)[0], module(x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_built_on_the_meta_device_it_loads(name: str) -> None:
    real = build(name, position=RotaryPosition(4)).eval()
    with torch.device("meta"):
        empty = attention(name, EMBED, HEADS, position=RotaryPosition(4))
    empty = empty.to_empty(device="cpu").double().eval()
    empty.load_state_dict(real.state_dict())
    assert torch.equal(empty(tokens(2, 9))[0], real(tokens(2, 9))[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_modules_stay_near(name: str, dtype: torch.dtype) -> None:
    module = build(name, neighborhood=Causal(5)).float().eval()
    x = tokens(2, 9).float()
    reference = module(x)[0]
    with torch.autocast("cpu", dtype=dtype):
        autocast = module(x)[0]
    low = module.to(dtype)(x.to(dtype))[0]
    for output in (autocast, low):
        assert output.dtype == dtype
        torch.testing.assert_close(output.float(), reference, atol=3e-2, rtol=3e-2)


def test_an_infinite_width_trains_on_without_harm() -> None:
    module = KrauseAttention(EMBED, HEADS, sigma=math.inf)
    module(torch.randn(2, 9, EMBED))[0].square().sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_origin_is_not_poisoned_by_padding_or_emptiness() -> None:
    module, x = KrauseAttention(EMBED, HEADS), torch.randn(2, 9, EMBED)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[:, 6:] = True
    x[:, 6:] = math.nan
    module(x, key_padding_mask=padding)
    module(torch.randn(2, 0, EMBED))
    assert module.origin.isfinite().all()
    assert module.origin.abs().sum() > 0
