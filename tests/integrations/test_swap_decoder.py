"""Swapped attention in Llama, Qwen2 and Qwen3 of transformers, with their caches."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import resonant
from resonant.functional import Causal
from resonant.functional.attend import record_paths
from resonant.integrations.decoder import HostedDecoderAttention

from ..integrations.tiny import VARIANTS, decoded, left_padding, tiny, tokens

SETTINGS: dict[str, dict[str, Any]] = {
    "softmax": {"mechanism": "softmax"},
    "krause": {"mechanism": "krause", "sigma": 2.0},
    "window": {"mechanism": "krause", "sigma": 2.0, "neighborhood": Causal(6), "top_k": 4},
    "sink": {"mechanism": "softmax-sink"},
    "first": {"mechanism": "krause", "sigma": 2.0, "neighborhood": Causal(5, first=2), "top_k": 4},
}
CASES = [(v, s) for v in VARIANTS for s in SETTINGS if not (s == "first" and "sliding" in v)]


@pytest.fixture(scope="module", params=CASES)
def swapped(request: pytest.FixtureRequest) -> Any:
    variant, setting = request.param
    model = tiny(variant)
    given = dict(SETTINGS[setting])
    resonant.swap(model, given.pop("mechanism"), **given)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_softmax_changes_nothing_and_unswap_restores_bits(
    variant: str, implementation: str
) -> None:
    model, ids, mask = tiny(variant), tokens(), left_padding()
    model.set_attn_implementation(implementation)
    before = model(ids, attention_mask=mask).logits
    assert resonant.swap(model, "softmax") == [
        "model.layers.0.self_attn",
        "model.layers.1.self_attn",
    ]
    after = model(ids, attention_mask=mask).logits
    torch.testing.assert_close(after[mask.bool()], before[mask.bool()], atol=2e-5, rtol=1e-4)
    resonant.unswap(model)
    assert torch.equal(model(ids, attention_mask=mask).logits, before)


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "left-padded"])
def test_decoding_is_the_full_pass(swapped: Any, static: bool, padded: bool) -> None:
    ids, mask = tokens(), left_padding() if padded else None
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    with torch.no_grad():
        full = swapped(ids, attention_mask=mask).logits
    made = decoded(swapped, ids, mask, static=static)
    torch.testing.assert_close(made[real], full[real], atol=2e-5, rtol=1e-4)


def test_the_future_changes_nothing(swapped: Any) -> None:
    ids = tokens()
    for cut in (1, 11, 22):
        other = torch.cat([ids[:, :cut], tokens(seed=5)[:, cut:]], dim=1)
        with torch.no_grad():
            assert torch.equal(swapped(ids).logits[:, :cut], swapped(other).logits[:, :cut])


def test_some_layers_and_further_swaps() -> None:
    model, ids = tiny("qwen3"), tokens()
    before = model(ids).logits
    resonant.swap(model, "krause", layers=-1, neighborhood=Causal(6), top_k=4)
    module = model.model.layers[1].self_attn
    assert isinstance(module, HostedDecoderAttention)
    assert not isinstance(model.model.layers[0].self_attn, HostedDecoderAttention)
    assert module.resonant.scalars["sigma"]().tolist() == pytest.approx([16**0.25] * 4)
    with record_paths() as paths, torch.no_grad():
        model(ids)
    assert paths == ["banded"]
    resonant.swap(model, "softmax", layers=-1)  # in the same neighbourhood
    again: Any = model.model.layers[1].self_attn
    assert (again.resonant.neighborhood, again.resonant.top_k) == (Causal(6), 4)
    twin = copy.deepcopy(model)
    resonant.unswap(model)
    resonant.unswap(model)
    assert torch.equal(model(ids).logits, before)
    assert not torch.allclose(twin(ids).logits, before)


def test_scalars_learn_and_bfloat16_runs() -> None:
    model, ids = tiny("llama").train(), tokens()
    resonant.swap(model, "krause", sigma=2.0)
    model(ids, labels=ids).loss.backward()
    learned = {n: p for n, p in model.named_parameters() if ".resonant." in n}
    assert len(learned) == 2
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned.values())
    assert model.eval().to(torch.bfloat16)(ids).logits.isfinite().all()


def test_what_is_refused() -> None:
    model, ids = tiny("llama"), tokens()
    for mechanism in ("clock", "linear"):
        with pytest.raises(ValueError, match="has no place in a decoder"):
            resonant.swap(model, mechanism)
    with pytest.raises(ValueError, match="couples phases"):
        resonant.swap(model, "kuramoto")
    with pytest.raises(TypeError, match="did you mean 'neighborhood'"):
        resonant.swap(model, "krause", neighbourhood=3.0)
    resonant.swap(model, "krause")
    hidden, turn = torch.randn(1, 4, 32), (torch.ones(1, 4, 8), torch.zeros(1, 4, 8))
    with pytest.raises(ValueError, match="load the model with attn_implementation='sdpa'"):
        model.model.layers[0].self_attn(hidden, turn, torch.ones(1, 4))
    assert model(ids).logits.isfinite().all()
