"""Parts of vision transformers: branches left out, norms, windows against a direct loop."""

import math

import pytest
import torch
from torch import nn

from resonant.nn import DropPath, PatchMerging, VisionBlock, WindowAttention, attention


def test_drop_path_keeps_the_mean_and_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    layer = DropPath(0.25)
    dropped = layer(x)
    rows = dropped.flatten(1)
    assert bool((rows == rows[:, :1]).all())  # whole rows
    assert rows[:, 0].unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(DropPath(0.0)(x), x)
    with pytest.raises(ValueError, match="probability"):
        DropPath(1.0)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_where_a_block_normalizes(norm: str) -> None:
    torch.manual_seed(0)
    block = VisionBlock(attention("softmax", 8, 2), 8, 16, norm=norm)  # type: ignore[arg-type]
    x = 5 * torch.randn(2, 7, 8)
    output = block(x)
    normalized = nn.functional.layer_norm(output, (8,))
    assert torch.allclose(output, normalized, atol=1e-4) == (norm == "post")


@pytest.mark.usefixtures("unchecked")
def test_a_norm_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="pre or post"):
        VisionBlock(attention("softmax", 8, 2), 8, 16, norm="mid")  # type: ignore[arg-type]


def by_hand(layer: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """Patch by patch, from the definition: who shares the window and the region, then softmax."""
    rows, columns = x.shape[1:3]
    inner, window, shift = layer.attention, layer.window, layer.shift
    heads, dim = inner.num_heads, inner.head_dim
    q, k, v = (p(x).unflatten(-1, (heads, dim)) for p in (inner.q_proj, inner.k_proj, inner.v_proj))
    output = torch.zeros_like(x)

    def home(place: int, length: int) -> tuple[int, bool]:
        """The window of a patch once rolled, and whether the roll carried it round."""
        rolled = (place - shift) % length
        return rolled // window, place < shift

    for a in range(rows):
        for b in range(columns):
            mine = [
                (c, d)
                for c in range(rows)
                for d in range(columns)
                if home(c, rows) == home(a, rows) and home(d, columns) == home(b, columns)
            ]
            for h in range(heads):
                logits = []
                for c, d in mine:
                    query, key = q[:, a, b, h] / math.sqrt(dim), k[:, c, d, h]
                    score = (query * key).sum(-1)
                    if inner.mechanism.name == "krause":
                        sigma = inner.learned_scalars()["sigma"][h] / math.sqrt(dim)
                        off = (q[:, a, b, h] - k[:, c, d, h]) / math.sqrt(dim)
                        score = -off.square().sum(-1) / (2 * sigma**2)
                    if layer.bias is not None:
                        away = (a - c) % rows, (b - d) % columns
                        away = [
                            x - n if x >= window else x
                            for x, n in zip(away, (rows, columns), strict=True)
                        ]
                        place = (away[0] + window - 1) * (2 * window - 1) + away[1] + window - 1
                        score = score + layer.bias[place, h]
                    logits.append(score)
                weights = torch.stack(logits, -1).softmax(-1)
                values = torch.stack([v[:, c, d, h] for c, d in mine], 1)
                part = slice(h * dim, (h + 1) * dim)
                output[:, a, b, part] = (weights.unsqueeze(-1) * values).sum(1)
    return inner.out_proj(output)


@pytest.mark.parametrize("mechanism", ["softmax", "krause", "softmax-sink"])
@pytest.mark.parametrize(("window", "shift"), [(2, 0), (2, 1), (3, 1), (4, 2)])
@pytest.mark.parametrize("relative", [True, False])
def test_windows_are_a_direct_loop(mechanism: str, window: int, shift: int, relative: bool) -> None:
    if mechanism == "softmax-sink":
        starts = {"sink": -1e4}  # no sink: the loop knows none
    else:
        starts = {"sigma": 1.3} if mechanism == "krause" else {}
    torch.manual_seed(window)
    layer = WindowAttention(mechanism, 8, 2, window, shift=shift, relative=relative, **starts)
    layer = layer.double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    x = torch.randn(2, 2 * window, 3 * window, 8, dtype=torch.float64, requires_grad=True)
    output, weights = layer(x, need_weights=True)
    expected = by_hand(layer, x)
    torch.testing.assert_close(output, expected)
    assert weights is not None
    assert weights.shape == (2 * 6, 2, window**2, window**2)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    ours, direct = (torch.autograd.grad(o.square().sum(), x)[0] for o in (output, expected))
    torch.testing.assert_close(ours, direct)


def test_sigma_is_in_units_of_scaled_features() -> None:
    layer = WindowAttention("krause", 32, 2, 2, sigma=4.0)
    assert layer.attention.learned_scalars()["sigma"].tolist() == pytest.approx([16.0, 16.0])


def test_refusals_of_windows() -> None:
    layer = WindowAttention("softmax", 8, 2, 4)
    with pytest.raises(ValueError, match="do not divide 6 x 8 patches"):
        layer(torch.randn(1, 6, 8, 8))
    with pytest.raises(ValueError, match="shifted by 0 to 3"):
        WindowAttention("softmax", 8, 2, 4, shift=4)
    with pytest.raises(ValueError, match="no logits"):
        WindowAttention("linear", 8, 2, 4)


def test_merging_takes_each_square_once() -> None:
    merge = PatchMerging(1)
    nn.init.eye_(merge.reduction.weight)
    seen = []
    merge.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    merge(torch.arange(16.0).reshape(1, 4, 4, 1))
    assert sorted(seen[0][0, 0, 0].tolist()) == [0.0, 1.0, 4.0, 5.0]
    assert seen[0].shape == (1, 2, 2, 4)
