"""Records of attention: against weights asked for by hand, and numbers with known answers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import resonant
from resonant.diagnostics import (
    LayerRecord,
    effective_rank,
    key_clusters,
    record_attention,
    summarize,
    token_cosine,
)
from resonant.functional import Causal, energy_log_gate
from resonant.models.language_configs import AttentionConfig


def layer(weights: torch.Tensor, real: torch.Tensor | None = None) -> LayerRecord:
    queries, keys = weights.shape[2:]
    real = torch.ones(weights.shape[0], keys, dtype=torch.bool) if real is None else real
    sees = torch.ones(1, queries, keys, dtype=torch.bool).tril()
    state = torch.randn(weights.shape[0], queries, 4)
    return LayerRecord("a", state, weights, sees, real, real, None)


def test_numbers_with_known_answers() -> None:
    uniform = torch.ones(1, 1, 12, 12).tril()
    uniform = uniform / uniform.sum(-1, keepdim=True)
    first = torch.zeros(1, 1, 12, 12)
    first[..., 0] = 1.0
    both = layer(torch.cat([uniform, first], dim=1))
    assert both.entropy().tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    mean = sum(1 / n for n in range(2, 13)) / 11
    assert both.sink().tolist() == pytest.approx([mean, 1.0], abs=1e-6)
    assert both.uniform_sink() == pytest.approx(mean)
    assert both.sink_share() == 0.5
    assert math.isnan(layer(uniform[:, :, :5, :5]).sink_share())


def test_padding_is_left_out() -> None:
    weights = torch.zeros(1, 1, 5, 5)
    weights[..., 1] = 1.0  # the first real key
    weights[:, :, 0] = 0.0
    real = torch.tensor([[False, True, True, True, True]])
    record = layer(weights, real)
    assert record.sink().item() == 1.0
    assert record.rows()[0].shape == (4, 4)
    assert not record.seen()[0, 0].any()


def test_states_with_known_answers() -> None:
    assert token_cosine(torch.ones(4, 3)) == pytest.approx(1.0)
    assert token_cosine(torch.eye(4)) == pytest.approx(0.0, abs=1e-6)
    assert token_cosine(torch.ones(1, 3)) == 1.0
    assert effective_rank(torch.eye(6)) == pytest.approx(6.0, rel=1e-5)
    assert effective_rank(torch.ones(6, 2)) == pytest.approx(1.0, rel=1e-3)


MODELS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "krause-window": {"attention": AttentionConfig("krause", window=9, top_k=4)},
    "gate": {"attention": AttentionConfig(gate="energy")},
    "kuramoto": {"mechanism": "kuramoto"},
}


@pytest.mark.parametrize("name", MODELS)
def test_recording_changes_nothing_and_sees_the_weights(name: str) -> None:
    torch.manual_seed(0)
    model = resonant.language_model("0.11M", **MODELS[name])
    tokens = torch.randint(0, 256, (3, 30))
    model.eval()
    before = model(tokens)
    model.train()
    record = record_attention(model, tokens)
    assert model.training
    model.eval()
    assert model(tokens).equal(before)
    assert [each.name for each in record.layers] == ["blocks.0.attention", "blocks.1.attention"]
    first = record.layers[0]
    # The first layer's input is known: its weights, asked for by hand.
    block = model.blocks[0]
    x = block.attention_norm(model.embedding(tokens) * math.sqrt(64))  # type: ignore[operator]
    _, weights = block.attention(x, is_causal=True, need_weights=True)  # type: ignore[operator]
    assert first.weights.equal(weights.detach())
    assert (first.weights.sum(-1) - 1).abs().max() < 1e-5
    assert (first.weights[:, :, ~first.sees[0]] == 0).all()
    assert first.state.equal(x.detach())
    if name == "gate":
        gate: Any = block.attention.gate  # type: ignore[union-attr]
        energy = gate.energy(x).mT
        expected = energy_log_gate(energy, gate.alpha(), gate.tau()).exp()
        assert first.gate is not None
        assert (first.gate - expected).abs().max() < 1e-6
    else:
        assert first.gate is None


def test_any_torch_model_can_be_recorded() -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(block, 2, enable_nested_tensor=False).eval()
    x = torch.randn(2, 7, 16)
    before = model(x)
    record = record_attention(model, x)
    assert [each.name for each in record.layers] == ["layers.0.self_attn", "layers.1.self_attn"]
    _, weights = model.layers[0].self_attn(x, x, x, average_attn_weights=False)  # type: ignore[operator]
    assert torch.allclose(record.layers[0].weights, weights)
    assert torch.allclose(model(x), before)
    late = nn.TransformerEncoderLayer(16, 2, 32)
    record = record_attention(late, x.transpose(0, 1))
    assert record.layers[0].state.shape == (2, 7, 16)


def test_padded_rows_are_not_nested_while_recorded() -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(block, 2)
    x = torch.randn(2, 7, 16)
    padding = torch.zeros(2, 7, dtype=torch.bool)
    padding[0, 4:] = True
    record = record_attention(model, x, src_key_padding_mask=padding)
    assert record.layers[0].real.equal(~padding)
    assert [len(row) for row in record.layers[1].rows()] == [4, 7]
    assert record.layers[1].measures()["effective_rank"] > 1
    assert model.use_nested_tensor


def test_masks_and_documents_of_a_call_count() -> None:
    module = resonant.nn.SoftmaxAttention(8, 2)
    x = torch.randn(2, 6, 8)
    band = torch.ones(6, 6, dtype=torch.bool).tril().triu(-2)
    as_float = torch.zeros(6, 6).masked_fill(~band, -torch.inf)
    for mask in (~band, as_float, (~band).expand(4, 6, 6)):
        record = record_attention(module, x, attn_mask=mask).layers[0]
        assert record.sees.expand(2, 6, 6)[0].equal(band)
        assert ((record.weights > 0) == band).all()
    labels = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0]])
    record = record_attention(module, x, documents=labels).layers[0]
    assert record.sees.equal((record.weights > 0).any(1))
    assert record.uniform_sink() > 0


def test_cross_attention_and_positional_arguments() -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    holder = nn.ModuleDict({"a": module})
    query, key = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[:, 3:] = True

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = holder["a"]

        def forward(self, query: torch.Tensor) -> torch.Tensor:
            return self.a(query, key, key, padding, True)[0]

    record = record_attention(Model(), query).layers[0]
    assert record.real.equal(~padding)
    assert record.real_queries.all()
    assert [len(row) for row in record.rows()] == [5, 5]


def test_a_shared_gate_and_an_adapter_alone() -> None:
    gate = resonant.nn.EnergyGate(8, 2)
    layers = [resonant.nn.SoftmaxAttention(8, 2, gate=gate) for _ in range(2)]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = layer(x)[0]
            return x

    record = record_attention(Model(), torch.randn(2, 5, 8))
    assert all(each.gate is not None for each in record.layers)
    assert "watch" not in gate.__dict__
    alone = record_attention(resonant.nn.PhaseAdapter(8, 2), torch.randn(2, 5, 8))
    assert [each.name for each in alone.layers] == ["PhaseAdapter"]
    with pytest.raises(ValueError, match="add a batch axis"):
        record_attention(nn.MultiheadAttention(8, 2), torch.randn(5, 8), *[torch.randn(5, 8)] * 2)


def test_what_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(ValueError, match="no attention that could be recorded"):
        record_attention(nn.Linear(3, 3), torch.randn(2, 3))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = resonant.nn.SoftmaxAttention(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(self.attention(x)[0])[0]

    model = Twice()
    with pytest.raises(ValueError, match="attention is called more than once"):
        record_attention(model, torch.randn(1, 4, 8))
    assert not model.attention._forward_hooks  # left as it was


def test_a_summary_is_arrays() -> None:
    tokens = torch.randint(0, 256, (2, 80))
    found = summarize(resonant.phase_language_model("0.11M"), tokens)
    assert found["weights"].shape == (2, 8, 64, 64)
    assert found["order"].shape == (3, 8)
    assert all(isinstance(each, np.ndarray) for each in found.values())
    gated = resonant.language_model("0.11M", attention=AttentionConfig(gate="energy"))
    found = summarize(gated, tokens)
    assert found["gates"].shape == (2, 4, 64)
    assert ((found["gates"] > 0) & (found["gates"] < 1)).all()
    assert found["gates_shut"].shape == (2,)
    assert "order" not in found


def test_a_mask_of_a_module_of_ours_is_known() -> None:
    module = resonant.nn.KrauseAttention(8, 2, neighborhood=Causal(window=3), top_k=1)
    record = record_attention(module, torch.randn(1, 6, 8)).layers[0]
    assert record.sees.int().sum(-1).tolist() == [[1, 2, 3, 3, 3, 3]]


def test_sinks_are_counted_over_rows_that_could_have_one() -> None:
    """Of two rows one is a single real token: it has no later query, and no say."""
    weights = torch.zeros(2, 1, 12, 12)
    weights[:, :, :, 0] = 1.0
    sees = torch.ones(1, 12, 12, dtype=torch.bool).tril()
    real = torch.ones(2, 12, dtype=torch.bool)
    real[1, 1:] = False
    layer = LayerRecord("a", torch.zeros(2, 12, 4), weights, sees, real, real, None)
    assert layer.sink_share() == 1.0
    alone = LayerRecord("a", torch.zeros(2, 12, 4), weights, sees, real & ~real, real, None)
    assert math.isnan(alone.sink_share())


def test_keys_are_clustered_by_sigma() -> None:
    key = torch.tensor([[0.0, 0.0], [0.4, 0.0], [0.8, 0.0], [5.0, 0.0], [5.0, 0.4], [9.0, 9.0]])
    real = torch.ones(1, 6, dtype=torch.bool)
    counts = key_clusters(key[None, None], torch.tensor([0.5, 0.1, 100.0]), real)
    assert counts.tolist() == [[3, 6, 1]]
    real[0, 5] = False
    assert key_clusters(key[None, None], torch.tensor([0.5]), real).tolist() == [[2]]
    module = resonant.nn.KrauseAttention(16, 4, sigma=1e-3)
    x = torch.randn(2, 7, 16)
    record = record_attention(module, x)
    assert record.layers[0].key_clusters is not None
    assert record.layers[0].key_clusters.tolist() == [[7] * 4] * 2
    assert summarize(module, x)["key_clusters"].tolist() == [[7.0] * 4]
    assert "key_clusters" not in summarize(resonant.nn.SoftmaxAttention(16, 4), x)
