"""Weights of models of transformers: those they really use, of the attention one asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

import resonant
from resonant.diagnostics import summarize_record
from resonant.functional import Causal
from resonant.integrations import (
    add_krause_branch,
    attention_sinks,
    branches,
    drop_attention,
    record_transformer,
    use_attention,
)
from resonant.integrations.attention_interface import implementations

from .tiny import VARIANTS, awake, left_padding, tiny, tokens


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_are_those_of_eager_attention(variant: str) -> None:
    model, ids = tiny(variant), tokens()
    record = record_transformer(model, input_ids=ids)
    assert model.config._attn_implementation == "sdpa"
    model.set_attn_implementation("eager")
    output = model(ids, output_attentions=True, output_hidden_states=True)
    assert [layer.name for layer in record.layers] == [
        "model.layers.0.self_attn",
        "model.layers.1.self_attn",
    ]
    for layer, theirs in zip(record.layers, output.attentions, strict=True):
        torch.testing.assert_close(layer.weights, theirs, atol=1e-5, rtol=1e-4)
    normed = model.model.layers[0].input_layernorm(output.hidden_states[0])
    torch.testing.assert_close(record.layers[0].state, normed)


def test_sinks_by_hand() -> None:
    model, ids = tiny("llama"), tokens()
    sinks = attention_sinks(model, input_ids=ids)
    model.set_attn_implementation("eager")
    weights = model(ids, output_attentions=True).attentions
    by_hand = torch.stack([w[:, :, 1:, 0].mean((0, 2)) for w in weights])
    torch.testing.assert_close(sinks, by_hand, atol=1e-5, rtol=1e-4)


def test_padding_is_no_first_token() -> None:
    model, ids, mask = tiny("qwen2"), tokens(), left_padding()
    both = attention_sinks(model, input_ids=ids, attention_mask=mask)
    place = torch.arange(5, 23).unsqueeze(0)
    rows = [(5, 0), (9, 1), (0, 2)]
    total, count = torch.zeros(2, 4), 0
    for skip, row in rows:
        place = torch.arange(skip, 23).unsqueeze(0)
        alone = attention_sinks(model, input_ids=ids[row : row + 1, skip:], position_ids=place)
        total, count = total + alone * (22 - skip), count + 22 - skip
    torch.testing.assert_close(both, total / count, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mechanism", ["krause", "softmax"])
def test_of_the_branch_when_the_branch_is_asked_for(mechanism: str) -> None:
    model, ids = tiny("qwen3"), tokens()
    add_krause_branch(model, window=6, top_k=4, mechanism=mechanism)
    awake(model)
    record = record_transformer(model, of="branch", input_ids=ids)
    for layer in record.layers:
        assert layer.weights.shape == (3, 4, 23, 23)
        torch.testing.assert_close(layer.weights.sum(-1), torch.ones(3, 4, 23))
        kept = (layer.weights > 0).sum(-1)
        assert kept.max() == 4
        assert not (layer.weights > 0).tril(-6).any()
        queries = torch.arange(1, 6)  # those whose window reaches the first token
        by_hand = layer.weights[:, :, queries, 0].mean((0, 2))
        torch.testing.assert_close(layer.sink(), by_hand)
    pretrained = record_transformer(model, of="pretrained", input_ids=ids)
    assert (pretrained.layers[0].weights[0, 0, 22] > 0).all()
    assert not any("watch" in vars(branch) for branch in branches(model).values())


def test_after_use_attention_it_is_that_attention() -> None:
    model, ids = tiny("llama"), tokens()
    use_attention(model, "krause", neighborhood=Causal(5), check=False)
    record = record_transformer(model, input_ids=ids)
    assert not (record.layers[0].weights > 0).tril(-5).any()
    assert model.config._attn_implementation == "resonant"


def test_other_causal_models_too() -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=64, n_positions=32)
    model = transformers.GPT2LMHeadModel(config).eval()
    sinks = attention_sinks(model, input_ids=tokens())
    model.set_attn_implementation("eager")
    weights = model(tokens(), output_attentions=True).attentions
    by_hand = torch.stack([w[:, :, 1:, 0].mean((0, 2)) for w in weights])
    torch.testing.assert_close(sinks, by_hand, atol=1e-5, rtol=1e-4)


def test_a_summary_has_what_reports_show() -> None:
    found = summarize_record(record_transformer(tiny("llama"), input_ids=tokens()))
    assert found["sink"].shape == found["entropy"].shape == (2, 4)
    assert found["weights"].shape == (2, 4, 23, 23)
    assert (found["effective_rank"] > 1).all()


def test_parts_keep_the_attention_that_they_had() -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 16}
    text = transformers.LlamaConfig(**sizes, vocab_size=64)
    seen = transformers.CLIPVisionConfig(**sizes, image_size=8, patch_size=4)
    config = transformers.LlavaConfig(text_config=text, vision_config=seen, image_token_index=63)
    model = transformers.LlavaForConditionalGeneration(config).eval()
    model.set_attn_implementation({"text_config": "eager"})
    before = implementations(model)
    assert len(set(before.values())) == 2
    attention_sinks(model, input_ids=tokens() % 60)
    assert implementations(model) == before
    use_attention(model, "krause", layers="*language_model*", check=False)
    assert implementations(model) != before
    drop_attention(model)
    assert implementations(model) == before


def test_what_is_refused() -> None:
    model = tiny("llama")
    with pytest.raises(ValueError, match="of is pretrained or branch"):
        attention_sinks(model, of="krause", input_ids=tokens())
    with pytest.raises(ValueError, match="has no branch"):
        attention_sinks(model, of="branch", input_ids=tokens())

    class Own(nn.Module):
        """A model without attention of its own, as transformers has them."""

        def __init__(self) -> None:
            super().__init__()
            self.config: Any = transformers.LlamaConfig()

        def set_attn_implementation(self, name: str) -> None:
            self.config._attn_implementation = name

        def forward(self, input_ids: Any, use_cache: bool) -> Any:
            return input_ids, use_cache

    with pytest.raises(ValueError, match="its weights cannot be seen"):
        attention_sinks(Own(), input_ids=tokens())
    with pytest.raises(ValueError, match="to swap"):
        resonant.swap(Own(), "krause")
