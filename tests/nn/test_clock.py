"""Clocks and mixtures as modules: signature, masks, padding, streaming, causality, drop-in."""

import copy
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.diagnostics import record_clocks
from resonant.functional import record_paths
from resonant.functional.clock import Clock
from resonant.nn import (
    AttentionCache,
    ClockAttention,
    CrossCache,
    EnergyGate,
    ForwardAttention,
    MixtureAttention,
    padded_queries,
)
from resonant.nn.timed import TimedAttention, inverse_softplus

EMBED, HEADS = 16, 4
MODULES: dict[str, Callable[..., TimedAttention]] = {
    "clock": ClockAttention,
    "clock-density": lambda *a, **o: ClockAttention(*a, score="density", **o),
    "clock-interval": lambda *a, **o: ClockAttention(*a, score="interval", **o),
    "clock-measure": lambda *a, **o: ClockAttention(*a, measure=True, **o),
    "mixture": MixtureAttention,
}


def build(name: str, *, running: bool = False, **options: Any) -> TimedAttention:
    """A module in float64 whose rates depend on features."""
    torch.manual_seed(0)
    if name != "mixture":
        options["normalized"] = not running
    module = MODULES[name](EMBED, HEADS, query_rate=0.3, **options).double()
    for projection in ("q_rate", "k_rate", "mixture"):
        if hasattr(module, projection):
            nn.init.normal_(getattr(module, projection).weight, std=0.2)
    return module


def tokens(batch: int, length: int, seed: int = 0, width: int = EMBED) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("running", [True, False])
def test_two_lengths_two_paddings_and_weights_that_make_the_output(
    name: str, running: bool
) -> None:
    """Each row with padding, on either side, is the row alone; padding is loud."""
    module = build(name, running=running)
    frames, source = tokens(3, 40), tokens(3, 11, seed=1)
    query_padding = torch.zeros(3, 40, dtype=torch.bool)
    key_padding = torch.zeros(3, 11, dtype=torch.bool)
    query_padding[0, 25:] = query_padding[1, :13] = True
    key_padding[0, 8:] = key_padding[1, :2] = True
    frames = frames.masked_fill(query_padding.unsqueeze(-1), 9.0)
    source = source.masked_fill(key_padding.unsqueeze(-1), -9.0)
    masks = {"key_padding_mask": key_padding, "query_padding_mask": query_padding}
    together, weights = module(frames, source, need_weights=True, **masks)
    assert weights.shape == (3, HEADS, 40, 11)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    for row in range(3):
        real_frames, real_source = ~query_padding[row], ~key_padding[row]
        alone, own = module(
            frames[row : row + 1, real_frames],
            source[row : row + 1, real_source],
            need_weights=True,
        )
        torch.testing.assert_close(together[row, real_frames], alone[0], atol=1e-10, rtol=1e-10)
        seen = weights[row][:, real_frames][:, :, real_source]
        torch.testing.assert_close(seen, own[0], atol=1e-10, rtol=1e-10)
    heads = module.v_proj(source).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    expected = module.out_proj((weights @ heads).transpose(1, 2).flatten(2))
    torch.testing.assert_close(together, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", MODULES)
def test_float_masks_and_attn_masks_take_part(name: str) -> None:
    module = build(name)
    frames, source = tokens(2, 9), tokens(2, 7, seed=1)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 5:] = True
    as_float = torch.zeros(2, 7, dtype=torch.float64).masked_fill(padding, -math.inf)
    expected = module(frames, source, key_padding_mask=padding)[0]
    given = module(frames, source, key_padding_mask=as_float)[0]
    torch.testing.assert_close(given, expected)
    blocked = torch.rand(9, 7) > 0.6
    blocked[:, 3] = False
    _, weights = module(frames, source, attn_mask=blocked, need_weights=True)
    assert (weights[:, :, blocked] == 0).all()
    per_head = blocked.expand(2 * HEADS, -1, -1)
    _, again = module(frames, source, attn_mask=per_head, need_weights=True)
    torch.testing.assert_close(again, weights)
    _, causal = module(frames, source, is_causal=True, need_weights=True)
    assert (causal[:, :, 0, :-8] == 0).all()


@pytest.mark.parametrize("name", MODULES)
def test_streaming_is_the_full_pass(name: str) -> None:
    """In chunks, then frame by frame, rows of several lengths, reordered half-way."""
    module = build(name, running=True).eval()
    frames, source = tokens(3, 60), tokens(3, 11, seed=1)
    padding = torch.zeros(3, 11, dtype=torch.bool)
    padding[0, 7:] = padding[2, :4] = True
    order = torch.tensor([2, 0, 0])
    with torch.no_grad():
        full = module(frames, source, key_padding_mask=padding)[0]
        cache = module.new_cache()
        outputs = []
        for start, stop in ((0, 1), (1, 23), (23, 30)):
            part = module(frames[:, start:stop], source, key_padding_mask=padding, cache=cache)
            outputs.append(part[0])
        torch.testing.assert_close(torch.cat(outputs, 1), full[:, :30], atol=1e-12, rtol=1e-12)
        cache.reorder(order)
        for t in range(30, 60):
            part = module(frames[order, t : t + 1], source[order], cache=cache)[0]
            torch.testing.assert_close(part, full[order, t : t + 1], atol=1e-12, rtol=1e-12)
    assert cache.length == 60
    held = sum(x.numel() * x.element_size() for x in cache.source.values())
    assert held < cache.nbytes < held + 2000


@pytest.mark.slow
@pytest.mark.parametrize("score", ["frozen", "interval"])
def test_ten_thousand_frames_streamed_are_the_full_pass(score: Any) -> None:
    module = ClockAttention(8, 2, normalized=False, score=score, query_rate=0.05).double().eval()
    nn.init.normal_(module.q_rate.weight, std=0.3)
    frames, source = tokens(1, 10_000, width=8), tokens(1, 400, seed=1, width=8)
    with torch.no_grad():
        full = module(frames, source)[0]
        cache, worst = module.new_cache(), 0.0
        for start in range(0, 10_000, 8):
            part = module(frames[:, start : start + 8], source, cache=cache)[0]
            worst = max(worst, (part - full[:, start : start + 8]).abs().max().item())
    assert worst < 1e-9


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_later_frames_change_no_bit_of_earlier_ones(name: str, dtype: torch.dtype) -> None:
    module = build(name, running=True).to(dtype)
    frames, source = tokens(2, 300).to(dtype), tokens(2, 23, seed=1).to(dtype)
    before = module(frames, source)[0]
    for cut in (1, 100, 131, 299):
        later = frames.clone()
        later[:, cut:] = 30.0 * torch.randn_like(later[:, cut:])
        assert torch.equal(module(later, source)[0][:, :cut], before[:, :cut])


def test_normalized_clocks_see_the_whole_target_and_say_so() -> None:
    module, source = build("clock").eval(), tokens(1, 5, seed=1)
    frames = tokens(1, 20)
    later = frames.clone()
    later[:, 10:] *= 3
    assert not torch.equal(module(frames, source)[0][:, :10], module(later, source)[0][:, :10])
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match=r"need the whole target at once.*normalized=False"),
    ):
        module(frames, source, cache=module.new_cache())


def test_the_stop_rule_is_the_median_head() -> None:
    module = build("clock", running=True).eval()
    nn.init.zeros_(module.q_rate.weight)  # type: ignore[union-attr]
    nn.init.zeros_(module.k_rate.weight)  # type: ignore[union-attr]
    speeds = torch.tensor([1.0, 0.52, 0.25, 0.01])
    with torch.no_grad():
        module.q_rate.bias.copy_(torch.tensor([inverse_softplus(x) for x in speeds.tolist()]))  # type: ignore[union-attr]
        cache, source = module.new_cache(), tokens(2, 6, seed=1)
        with pytest.raises(ValueError, match="no frame was decoded with this cache yet"):
            _ = cache.finished
        padding = torch.tensor([[False] * 6, [False] * 3 + [True] * 3])
        finished = []
        for _ in range(16):
            module(tokens(2, 1), source, key_padding_mask=padding, cache=cache)
            finished.append(cache.finished)
    ends = torch.stack(finished).int().argmax(0) + 1
    # Half of the heads, those at 1 and 0.52 a frame, pass 6 symbols after 12 frames, 3 after 6.
    assert ends.tolist() == [12, 6]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("training", [True, False])
def test_a_drop_in_for_the_decoder_layer(name: str, training: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(EMBED, HEADS, 32, dropout=0.0, batch_first=True).double()
    module = build(name)
    layer.multihead_attn = module  # type: ignore[assignment]
    layer.train(training)
    frames, source = tokens(2, 12), tokens(2, 7, seed=1)
    frame_padding = torch.zeros(2, 12, dtype=torch.bool)
    frame_padding[0, 9:] = True
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 4:] = True
    masks = {"tgt_key_padding_mask": frame_padding, "memory_key_padding_mask": padding}
    with padded_queries(layer, frame_padding), record_paths() as taken:
        output = layer(frames, source, **masks)
    assert "chunked" in taken  # the clocks; self-attention is PyTorch's own
    assert module.query_padding is None
    alone = layer(frames[:1, :9], source[:1, :4])
    torch.testing.assert_close(output[:1, :9], alone)
    layer.zero_grad()
    output[~frame_padding].square().sum().backward()
    assert all(p.grad is not None for p in module.v_proj.parameters())
    whole = nn.TransformerDecoder(layer, 2)
    assert all(isinstance(x.multihead_attn, type(module)) for x in whole.layers)
    with padded_queries(whole, frame_padding):
        assert whole(frames, source, **masks).isfinite().all()


@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_is_reached(name: str) -> None:
    module = build(name)
    module(tokens(2, 30), tokens(2, 9, seed=1))[0].square().sum().backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


def test_normalized_clocks_start_on_the_diagonal() -> None:
    module = ClockAttention(EMBED, HEADS)
    frames, source = tokens(2, 90).float(), tokens(2, 30, seed=1).float()
    _, weights = module(frames, source, need_weights=True)
    place = ((weights * (torch.arange(30) + 0.5)).sum(-1)) / 30
    assert (place - (torch.arange(90) + 0.5) / 90).abs().max() < 0.05
    softmax = nn.MultiheadAttention(EMBED, HEADS, batch_first=True)
    _, weights = softmax(frames, source, source, average_attn_weights=False)
    place = ((weights * (torch.arange(30) + 0.5)).sum(-1)) / 30
    assert (place - (torch.arange(90) + 0.5) / 90).abs().max() > 0.2


def test_off_values_are_off() -> None:
    for kind in (ClockAttention, MixtureAttention, ForwardAttention):
        parameters = inspect.signature(kind.__init__).parameters.values()
        numbers = {p.name for p in parameters if isinstance(p.default, float)}
        assert numbers | ({"diffusion"} & set(kind.OFF)) == set(kind.OFF)  # which starts by listen
    frames, source = tokens(2, 9), tokens(2, 7, seed=1)
    blind = ClockAttention(EMBED, HEADS, floor=math.inf).double()
    _, weights = blind(frames, source, need_weights=True)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 7))
    assert blind(frames, source)[0].isfinite().all()
    still: dict[str, Any] = {"query_rate": 0.0}
    for module in (
        ClockAttention(EMBED, HEADS, normalized=False, **still),
        MixtureAttention(EMBED, HEADS, **still),
    ):
        module = module.double()
        if isinstance(module, MixtureAttention):
            nn.init.zeros_(module.mixture.weight)
        output, _ = module(frames, source)
        torch.testing.assert_close(output, output[:, :1].expand_as(output))
    noiseless = ClockAttention(EMBED, HEADS, diffusion=0.0).double()
    _, weights = noiseless(frames, source, need_weights=True)
    center = (torch.arange(9).double() + 0.5) / 9
    keys = (torch.arange(7).double() + 0.5) / 7
    logits = -((center[:, None] - keys) ** 2) / (2 * (0.5 / 7) ** 2)
    torch.testing.assert_close(weights[0, 0], logits.softmax(-1))
    dropping = ClockAttention(EMBED, HEADS, dropout=0.0).double()
    assert torch.equal(dropping.train()(frames, source)[0], dropping.eval()(frames, source)[0])
    lossy = ClockAttention(EMBED, HEADS, dropout=0.5).double()
    assert not torch.equal(lossy.train()(frames, source)[0], lossy.eval()(frames, source)[0])


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if "interval" in n else ()) for n in MODULES],
)
def test_low_precision_keeps_time(name: str) -> None:
    """Under autocast and in bfloat16: finite, near float32, also after 5,000 frames."""
    module = build(name).float()
    frames, source = tokens(1, 5_000).float(), tokens(1, 500, seed=1).float()
    expected = module(frames, source)[0]
    with torch.autocast("cpu", torch.bfloat16):
        automatic = module(frames, source)[0]
    narrow = copy.deepcopy(module).bfloat16()(frames.bfloat16(), source.bfloat16())[0]
    for output in (automatic, narrow):
        assert output.dtype == torch.bfloat16
        assert output.isfinite().all()
        error = (output.float() - expected).square().mean().sqrt()
        # Mixtures have widths and weights too, of features that bfloat16 rounds.
        assert error < (0.2 if name == "mixture" else 0.05) * expected.square().mean().sqrt()


def test_clocks_do_not_drift_in_bfloat16() -> None:
    """A thousand tokens at the starting rate are a thousand, not a thousand and one."""
    module = ClockAttention(EMBED, HEADS, normalized=False, query_rate=0.5).bfloat16()
    with record_clocks(module) as found:
        module(tokens(1, 2000).bfloat16(), tokens(1, 1000, seed=1).bfloat16())
    ((target, source),) = found
    assert isinstance(target, Clock)
    expected = torch.nn.functional.softplus(module.k_rate.bias.float())[0] * 1000
    torch.testing.assert_close(
        source.total, torch.full_like(source.total, expected.item()), rtol=1e-6, atol=0.0
    )
    assert target.total.sub(1000).abs().max() < 3  # the starting bias itself is rounded


@pytest.mark.parametrize("name", MODULES)
def test_nothing_to_attend_with_or_to(name: str) -> None:
    module = build(name)
    for queries, keys in ((0, 5), (5, 0), (0, 0)):
        frames, source = tokens(2, queries), tokens(2, keys, seed=1)
        output, weights = module(frames, source, need_weights=True)
        assert output.shape == (2, queries, EMBED)
        assert weights is not None
        assert weights.shape == (2, HEADS, queries, keys)
        assert output.isfinite().all()


def test_a_mixture_stops_by_its_real_frames() -> None:
    module = build("mixture", running=True).eval()
    source, frames = tokens(2, 3, seed=1), tokens(2, 30)
    padding = torch.arange(30) >= torch.tensor([[30], [12]])
    with torch.no_grad():
        cache, alone = module.new_cache(), module.new_cache()
        loud = frames.masked_fill(padding.unsqueeze(-1), float("nan"))
        module(loud, source, query_padding_mask=padding, cache=cache)
        module(frames[1:, :12], source[1:], cache=alone)
        assert cache.passed is not None
        assert alone.passed is not None
        assert torch.equal(cache.passed[1:], alone.passed)
        module(frames[:, :0], source, cache=cache)
        assert cache.length == 30


def test_an_energy_gate_on_source_tokens() -> None:
    gate = EnergyGate(EMBED, HEADS, standardize="sequence", allow_future_leak=True)
    module = ClockAttention(EMBED, HEADS, gate=gate).double()
    frames, source = tokens(2, 30), tokens(2, 9, seed=1)
    _, weights = module(frames, source, need_weights=True)
    place = (weights * torch.arange(9)).sum(-1)
    assert (place.diff(dim=-1) >= -1e-12).all()
    module.gate = None
    assert not module(frames, source, need_weights=True)[1].allclose(weights)  # type: ignore[union-attr]


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused_says_why() -> None:
    frames, source = tokens(2, 9), tokens(2, 7, seed=1)
    with pytest.raises(ValueError, match="score is one of frozen, density, interval; it is 'l'"):
        ClockAttention(EMBED, HEADS, score="l")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="leave out measure"):
        ClockAttention(EMBED, HEADS, score="interval", measure=True)
    with pytest.raises(ValueError, match="floor is a spread and must be above 0; it is 0"):
        ClockAttention(EMBED, HEADS, floor=0.0)
    with pytest.raises(ValueError, match="a rate must not be negative"):
        ClockAttention(EMBED, HEADS, query_rate=-1.0)
    with pytest.raises(ValueError, match="batch_first=False is not supported"):
        MixtureAttention(EMBED, HEADS, batch_first=False)
    with pytest.raises(ValueError, match=r"components counts Gaussians, so .* it is 0"):
        MixtureAttention(EMBED, HEADS, components=0)
    running = build("clock", running=True)
    with pytest.raises(ValueError, match=r"query_padding_mask must have shape .* = \(2, 9\)"):
        running(frames, source, query_padding_mask=torch.zeros(2, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="key_padding_mask must have shape"):
        running(frames, source, key_padding_mask=torch.zeros(2, 8, dtype=torch.bool))
    with pytest.raises(TypeError, match="query_padding_mask must be boolean"):
        running(frames, source, query_padding_mask=torch.zeros(2, 9))
    with pytest.raises(ValueError, match="must share the batch, key and value the length"):
        build("mixture")(frames, source, tokens(2, 50))
    with (
        pytest.raises(ValueError, match="Linear holds no ClockAttention"),
        padded_queries(nn.Linear(2, 2), torch.zeros(2, 9, dtype=torch.bool)),
    ):
        pass
    with pytest.raises(ValueError, match=r"attention takes \(batch, sequence, embed\)"):
        running(frames[0], source)
    with pytest.raises(ValueError, match=r"a cache is for inference; call eval\(\)"):
        running(frames, source, cache=CrossCache())
    running.eval()
    with torch.no_grad():
        with pytest.raises(TypeError, match="ClockAttention cannot use a AttentionCache"):
            running(frames, source, cache=AttentionCache())
        mask = torch.zeros(9, 7, dtype=torch.bool)
        with pytest.raises(ValueError, match="attn_mask and is_causal cannot be used with a"):
            running(frames, source, attn_mask=mask, cache=CrossCache())
        with pytest.raises(ValueError, match="attn_mask and is_causal cannot be used with a"):
            running(frames, source, is_causal=True, cache=CrossCache())
        used = CrossCache()
        running(frames, source, cache=used)
        with pytest.raises(TypeError, match="is of a ClockAttention, not of a MixtureAttention"):
            build("mixture").eval()(frames, source, cache=used)
        cache = running.new_cache()
        running(frames, source, cache=cache)
        with pytest.raises(ValueError, match="holds a source of 2 rows and 7 tokens"):
            running(frames, tokens(2, 8), cache=cache)
