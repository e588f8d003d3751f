"""What attention is worth: layers and heads taken away, of every kind of module."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.diagnostics import attention_worth, without_attention
from resonant.models.language import LanguageModel, language_model
from resonant.models.phase import phase_language_model
from resonant.nn import ClockAttention, KuramotoAttention, attention

EMBED, HEADS = 16, 4
MODULES = {
    "softmax": lambda: attention("softmax", EMBED, HEADS),
    "krause": lambda: attention("krause", EMBED, HEADS, num_key_value_heads=2),
    "linear": lambda: attention("linear", EMBED, HEADS),
    "kuramoto": lambda: attention("kuramoto", EMBED, HEADS),
    "phases": lambda: KuramotoAttention(EMBED, HEADS),
    "clock": lambda: ClockAttention(EMBED, HEADS),
}


@pytest.mark.parametrize("name", MODULES)
def test_without_all_heads_one_by_one_only_the_bias_is_left(name: str) -> None:
    torch.manual_seed(0)
    layer: Any = MODULES[name]().double().eval()
    x = torch.randn(2, 9, EMBED, dtype=torch.float64)
    whole = layer(x)[0]
    with without_attention(layer):
        nothing = layer(x)[0]
    assert torch.equal(nothing, x if name == "phases" else torch.zeros_like(whole))
    lost = torch.zeros_like(whole)
    for head in range(HEADS):
        with without_attention(layer, head):
            lost += whole - layer(x)[0]
        assert torch.equal(layer(x)[0], whole)  # only inside the block
    bias = layer.out_proj.bias if name != "phases" and layer.out_proj.bias is not None else 0.0
    expected = whole - x if name == "phases" else whole - bias
    torch.testing.assert_close(lost, expected, atol=1e-12, rtol=1e-12)
    says = "has 4 heads that can be taken away; not 4"
    with pytest.raises(ValueError, match=says), without_attention(layer, HEADS):
        pass


def test_a_layer_of_torch_is_taken_away_whole() -> None:
    layer = nn.MultiheadAttention(EMBED, HEADS, batch_first=True).eval()
    x = torch.randn(2, 5, EMBED)
    with without_attention(layer):
        assert layer(x, x, x)[0].eq(0).all()
    encoder = nn.TransformerEncoderLayer(EMBED, HEADS, 24, batch_first=True)
    found = attention_worth(encoder, lambda: encoder(x).square().mean())
    assert [each.heads for each in found.layers] == [()]


def trained(model: LanguageModel) -> tuple[LanguageModel, Tensor]:
    """Taught to repeat the token of two places before, which takes attention."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(120):
        ids = torch.randint(8, (16, 2)).repeat(1, 8)
        ids[:, 1::2] = torch.randint(8, (16, 8))
        ids[:, 2::4] = ids[:, 0::4]
        optimizer.zero_grad()
        loss_of(model, ids).backward()
        optimizer.step()
    return model, ids


def loss_of(model: LanguageModel, ids: Tensor) -> Tensor:
    logits = model(ids[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def test_what_a_task_needs_is_worth_something_and_an_empty_head_nothing() -> None:
    torch.manual_seed(0)
    model, ids = trained(language_model("0.11M", vocabulary=8, layers=1))
    layer: Any = model.attentions()[0]
    with torch.no_grad():
        layer.out_proj.weight[:, :16] = 0.0  # head 0 says nothing
    found = attention_worth(model, lambda: loss_of(model, ids))
    assert found.loss == pytest.approx(loss_of(model.eval(), ids).item())
    (worth,) = found.layers
    assert worth.name == "blocks.0.attention"
    assert worth.worth > 0.05
    assert worth.heads[0] == 0.0
    assert max(worth.heads) > 0.0
    assert attention_worth(model, lambda: 1.0, heads=False).layers[0].heads == ()


def test_models_of_phases_and_what_is_refused() -> None:
    model = phase_language_model("0.11M")
    ids = torch.randint(256, (1, 12))
    found = attention_worth(model, lambda: model(ids).logsumexp(-1).mean())
    assert len(found.layers) == 2
    assert all(len(each.heads) == 8 for each in found.layers)
    with pytest.raises(ValueError, match="has no attention that could be taken away"):
        attention_worth(nn.Linear(3, 3), lambda: 0.0)
    with pytest.raises(ValueError, match="no finite number but nan"):
        attention_worth(model, lambda: float("nan"))
