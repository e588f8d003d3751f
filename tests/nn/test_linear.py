"""The linear attention module: cache, padding, refusals, its place in models."""

from typing import Any

import pytest
import torch

from resonant import language_model
from resonant.functional import Causal, Grid
from resonant.models.language_configs import PositionConfig
from resonant.nn import AttentionCache, EnergyGate, LinearAttention, RotaryPosition, attention


@pytest.mark.parametrize("position", ["rotary", "none"])
def test_decoding_is_the_full_pass(position: str) -> None:
    torch.manual_seed(0)
    model = (
        language_model(mechanism="linear", position=PositionConfig(kind=position)).double().eval()
    )
    tokens = torch.randint(0, 256, (3, 90))
    padding = torch.zeros(3, 90, dtype=torch.bool)
    padding[1, :7] = True
    with torch.no_grad():
        full = model(tokens, key_padding_mask=padding)
        cache, pieces = model.new_cache(), []
        for start, stop in ((0, 40), (40, 70), *((i, i + 1) for i in range(70, 90))):
            piece = {"key_padding_mask": padding[:, start:stop]}
            pieces.append(model(tokens[:, start:stop], cache=cache, **piece))
            held = cache.nbytes
    torch.testing.assert_close(torch.cat(pieces, 1)[~padding], full[~padding])
    assert cache.length == 90
    assert held == 2 * 3 * 4 * (16 * 16 + 16) * 8  # layers, rows, heads, sums in float64
    cache.reorder(torch.tensor([2, 0]))
    with torch.no_grad():
        assert model(tokens[:2, :1], cache=cache).shape == (2, 1, 256)


def test_weights_are_those_of_the_output() -> None:
    torch.manual_seed(0)
    layer = LinearAttention(8, 2, neighborhood=Causal()).double()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    output, weights = layer(x, need_weights=True)
    assert weights is not None
    value = layer.v_proj(x).unflatten(-1, (2, 4)).transpose(1, 2)
    torch.testing.assert_close(output, layer.out_proj((weights @ value).transpose(1, 2).flatten(2)))
    assert layer(x)[1] is None


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"top_k": 2}, "top_k"),
        ({"dropout": 0.5}, "dropout"),
        ({"num_key_value_heads": 1}, "num_key_value_heads"),
        ({"neighborhood": Causal(4)}, "window=4"),
        ({"neighborhood": Grid(2, 2)}, "Grid"),
        ({"gate": EnergyGate(8, 2)}, "gate"),
    ],
)
def test_what_sums_cannot_do_is_refused(options: dict[str, Any], names: str) -> None:
    with pytest.raises(ValueError, match=rf"choose among, so .*{names}.* has no meaning for it"):
        attention("linear", 8, 2, **options)


@pytest.mark.usefixtures("unchecked")
def test_calls_that_are_refused() -> None:
    layer = LinearAttention(8, 2, position=RotaryPosition(4)).eval()
    x = torch.randn(1, 5, 8)
    with pytest.raises(ValueError, match="attn_mask and documents"):
        layer(x, attn_mask=torch.zeros(5, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match="cannot use a AttentionCache"), torch.no_grad():
        layer(x, is_causal=True, cache=AttentionCache())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unsqueeze\(0\)"):
        layer(x[0])
    with pytest.raises(ValueError, match="causal inference"), torch.no_grad():
        layer(x, cache=layer.new_cache())
