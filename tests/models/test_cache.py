"""Decoding with a cache equals the full pass, for every mechanism, gate and position."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import resonant
from resonant.functional.documents import document_runs
from resonant.models.base import CausalModel
from resonant.models.language import LanguageModel
from resonant.models.language_configs import (
    ADDED,
    POSITIONS,
    AttentionConfig,
    LanguageModelConfig,
    PositionConfig,
)

WINDOW, LENGTH, CHUNK = 7, 23, 5
PADS = torch.tensor([0, 3, 22])
MECHANISMS = [
    ("softmax", None),
    ("softmax-sink", None),
    ("krause", None),
    ("krause", 3),
    ("kuramoto", None),
    ("kuramoto", 3),
]
GATES = [None, "prefix", "none"]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
# Windows in float64 are quick; without a window, and in float32, they are in the slow set.
OTHERS = [False, pytest.param(True, marks=pytest.mark.slow)]


def cases(others: bool) -> list[tuple[torch.dtype, int | None]]:
    """Dtypes and windows: the quick one, or the others."""
    found: list[tuple[torch.dtype, int | None]] = [*itertools.product(TOLERANCE, (WINDOW, None))]
    return found[1:] if others else found[:1]


def build(
    kind: str,
    mechanism: str = "softmax",
    top_k: int | None = None,
    gate: str | None = None,
    *,
    window: int | None = WINDOW,
    dtype: torch.dtype = torch.float64,
    **position: float,
) -> LanguageModel:
    """A model whose learned numbers are away from their starts and whose tokens differ."""
    torch.manual_seed(0)
    energy: Any = {} if gate is None else {"gate": "energy", "standardize": gate}
    config = LanguageModelConfig(
        vocabulary=32,
        layers=2,
        width=16,
        heads=4,
        key_value_heads=None if mechanism == "kuramoto" else 2,
        hidden=24,
        position=PositionConfig(**{"kind": kind, "locality": 3.7, "max_length": 40, **position}),  # type: ignore[arg-type]
        attention=AttentionConfig(mechanism, window, top_k, **energy),
    )
    model = LanguageModel(config).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "embedding" in name or "table" in name:
                parameter.normal_()
    return model


def tokens() -> tuple[Tensor, Tensor]:
    """Random tokens, and where they are padding on the left."""
    drawn = torch.randint(0, 32, (3, LENGTH), generator=torch.Generator().manual_seed(1))
    return drawn, torch.arange(LENGTH) < PADS.unsqueeze(1)


@torch.no_grad()
def decode(
    model: CausalModel, ids: Tensor, padding: Tensor | None, documents: Tensor | None = None
) -> float:
    """The largest difference from the full pass, rows reordered in the middle."""

    def masks(of: slice) -> dict[str, Tensor | None]:
        return {
            "key_padding_mask": None if padding is None else padding[:, of],
            "documents": None if documents is None else documents[:, of],
        }

    full = model(ids, **masks(slice(None)))
    cache, worst = model.new_cache(), 0.0
    cuts = [0, 5, 10, 15, *range(16, LENGTH + 1)]
    for start, stop in itertools.pairwise(cuts):
        if start == 15:
            order = torch.tensor([2, 0, 1])
            cache.reorder(order)
            ids, full = ids[order], full[order]
            padding = None if padding is None else padding[order]
            documents = None if documents is None else documents[order]
        of = slice(start, stop)
        apart = (model(ids[:, of], cache=cache, **masks(of)) - full[:, of]).abs()
        if padding is not None:
            apart = apart[~padding[:, of]]
        worst = max(worst, apart.max().item() if apart.numel() else 0.0)
    assert cache.length == LENGTH
    return worst


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("mechanism", "top_k"), MECHANISMS)
@pytest.mark.parametrize("others", OTHERS)
def test_cached_is_full(
    kind: str, gate: str | None, mechanism: str, top_k: int | None, others: bool
) -> None:
    ids, padding = tokens()
    if (kind, mechanism) == ("rotary-biased", "kuramoto"):
        with pytest.raises(ValueError, match="which kuramoto has none of; choose rotary"):
            build(kind, mechanism)
        return
    for dtype, window in cases(others):
        model = build(kind, mechanism, top_k, gate, window=window, dtype=dtype)
        worst = decode(model, ids, padding)
        assert worst < TOLERANCE[dtype], f"{dtype}, window {window}: {worst:.2e}"


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("gate", GATES)
def test_cached_is_full_over_packed_documents(kind: str, gate: str | None) -> None:
    ids, _ = tokens()
    documents = torch.tensor([[0] * 8 + [1] * 15, [4] * 15 + [2] * 8, [1, 2] + [1] * 21])
    for window in (WINDOW, None):
        model = build(kind, "krause", 3, gate, window=window)
        assert decode(model, ids, None, documents) < 1e-9


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("mechanism", ["softmax", "krause"])
def test_packed_documents_are_as_if_alone(kind: str, mechanism: str) -> None:
    model = build(kind, mechanism, gate="prefix")
    ids, _ = tokens()
    documents = torch.tensor([[0] * 8 + [1] * 15, [4] * 15 + [2] * 8, [1, 2] + [1] * 21])
    with torch.no_grad():
        together = model(ids, documents=documents)
        runs = document_runs(documents)
        assert runs.amax(1).tolist() == [1, 1, 2]  # a label that recurs is another document
        for row, numbers in zip(range(3), runs, strict=True):
            for number in numbers.unique():
                where = numbers == number
                alone = model(ids[row][where].unsqueeze(0))[0]
                torch.testing.assert_close(together[row][where], alone, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", POSITIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_as_if_it_were_not_there(kind: str, side: str) -> None:
    model = build(kind, "krause", gate="prefix")
    ids, padding = tokens()
    padding = padding if side == "left" else padding.flip(1)
    with torch.no_grad():
        padded = model(ids, key_padding_mask=padding)
        for row in range(3):
            alone = model(ids[row][~padding[row]].unsqueeze(0))[0]
            torch.testing.assert_close(padded[row][~padding[row]], alone, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", POSITIONS)
def test_the_future_changes_no_bit(kind: str) -> None:
    model = build(kind, "krause", 3, "prefix", dtype=torch.float32)
    ids, _ = tokens()
    later = ids.clone()
    later[:, 12:] = torch.randint(0, 32, (3, LENGTH - 12))
    with torch.no_grad():
        before, after = model(ids), model(later)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before[:, 12:], after[:, 12:])


@torch.no_grad()
def test_a_window_holds_two_windows_at_most_and_a_prefill_may_be_longer() -> None:
    model = build("rotary", window=8)
    cache = model.new_cache()
    ids = torch.randint(0, 32, (1, 300))
    full = model(ids)
    model(ids[:, :100], cache=cache)
    sizes = set()
    for t in range(100, 300):
        logits = model(ids[:, t : t + 1], cache=cache)
        torch.testing.assert_close(logits, full[:, t : t + 1], atol=1e-9, rtol=1e-9)
        sizes.add(cache.nbytes)
    per_token = 2 * 2 * (4 + 4) * 8  # layers, key heads, key and value, bytes
    assert max(sizes) <= 2 * 8 * per_token
    assert cache.length == 300
    growing = build("rotary", window=None)
    cache = growing.new_cache()
    for t in range(50):
        growing(ids[:, t : t + 1], cache=cache)
    assert 50 * per_token <= cache.nbytes <= 2 * 51 * per_token


@torch.no_grad()
def test_reorder_may_change_the_number_of_rows() -> None:
    for kind in POSITIONS:
        model = build(kind, gate="prefix")
        ids, padding = tokens()
        cache = model.new_cache()
        model(ids[:2, :9], key_padding_mask=padding[:2, :9], cache=cache)
        index = torch.tensor([1, 1, 0, 1])
        cache.reorder(index)
        logits = model(ids[:2, 9:10][index], cache=cache)
        expected = model(ids[:2, :10], key_padding_mask=padding[:2, :10])[:, 9:][index]
        torch.testing.assert_close(logits, expected, atol=1e-9, rtol=1e-9)


def test_inference_mode_may_be_left() -> None:
    model = build("rotary")
    ids, _ = tokens()
    cache = model.new_cache()
    with torch.inference_mode():
        full = model(ids)
        first = model(ids[:, :3], cache=cache)
    with torch.no_grad():
        rest = [model(ids[:, t : t + 1], cache=cache) for t in range(3, LENGTH)]
    torch.testing.assert_close(torch.cat([first, *rest], 1), full, atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_padding_may_come_late() -> None:
    """A first call without a mask and a later one with one: the stored bias starts at 0."""
    model = build("sinusoidal")
    ids, _ = tokens()
    padding = torch.zeros(3, LENGTH, dtype=torch.bool)
    padding[1, 12:15] = True
    cache = model.new_cache()
    full = model(ids, key_padding_mask=padding)
    first = model(ids[:, :10], cache=cache)
    second = model(ids[:, 10:16], key_padding_mask=padding[:, 10:16], cache=cache)
    third = model(ids[:, 16:], cache=cache)
    decoded = torch.cat([first, second, third], 1)
    torch.testing.assert_close(decoded[~padding], full[~padding], atol=1e-9, rtol=1e-9)


def test_what_a_cache_refuses_says_why() -> None:
    model = build("learned")
    ids, _ = tokens()
    with pytest.raises(ValueError, match=r"call the model inside torch\.no_grad"):
        model(ids, cache=model.new_cache())
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"call eval\(\) on the module first"):
            model.train()(ids, cache=model.new_cache())
        model.eval()
        cache = model.new_cache()
        model(ids, cache=cache)
        with pytest.raises(ValueError, match=r"max_length = 40, but the sequence has 46 tokens"):
            model(ids, cache=cache)
        labels = torch.zeros(3, LENGTH, dtype=torch.long)
        for gate in (None, "prefix"):
            model = build("rotary", gate=gate)
            cache = model.new_cache()
            model(ids, cache=cache)
            with pytest.raises(ValueError, match="give them in every call or in none"):
                model(ids, documents=labels, cache=cache)
        layer = resonant.nn.SoftmaxAttention(16, 4).eval()
        x = torch.randn(1, 5, 16)
        with pytest.raises(ValueError, match=r"use Causal\(\) or is_causal=True"):
            layer(x, cache=layer.new_cache())
        with pytest.raises(ValueError, match="attn_mask cannot be used with a cache"):
            layer(x, is_causal=True, attn_mask=torch.zeros(5, 5), cache=layer.new_cache())


@pytest.mark.parametrize("kind", POSITIONS)
def test_a_refused_call_leaves_the_cache_as_it_was(kind: str) -> None:
    model = build(kind, gate="prefix")
    ids, _ = tokens()
    labels = torch.zeros(3, LENGTH, dtype=torch.long)
    cache = model.new_cache()
    with pytest.raises(ValueError, match="no_grad"):
        model(ids[:, :5], cache=cache)
    with torch.no_grad():
        full = model(ids)
        first = model(ids[:, :5], cache=cache)
        with pytest.raises(ValueError, match="in every call or in none"):
            model(ids[:, 5:9], documents=labels[:, 5:9], cache=cache)
        with pytest.raises(ValueError, match="call eval"):
            model.train()(ids[:, 5:9], cache=cache)
        model.eval()
        rest = model(ids[:, 5:], cache=cache)
    torch.testing.assert_close(torch.cat([first, rest], 1), full, atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_learned_positions_count_neither_padding_nor_other_documents() -> None:
    model = build("learned", max_length=8)
    ids, _ = tokens()
    packed = torch.tensor([[0] * 8 + [1] * 8])
    assert model(ids[:1, :16], documents=packed).shape == (1, 16, 32)
    padding = torch.arange(16) < 8
    assert model(ids[:1, :16], key_padding_mask=padding.unsqueeze(0)).shape == (1, 16, 32)
    with pytest.raises(ValueError, match="max_length = 8, but the sequence has 9 tokens"):
        model(ids[:, :9])


def test_added_positions_are_the_ones_without_rotation() -> None:
    for kind in POSITIONS:
        model = build(kind)
        assert (model.position is not None) == (kind in ADDED)
        turning = [layer.position is not None for layer in model.attentions()]
        assert all(turning) == (kind not in (*ADDED, "none"))
