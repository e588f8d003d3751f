"""ViTs of transformers under our mechanisms: the same numbers with softmax, grids, and back."""

from typing import Any

import pytest
import torch
from torch import nn

import resonant
from resonant import Grid, swap, unswap
from resonant.diagnostics import record_attention
from resonant.functional import record_paths
from resonant.integrations.hosted import HOSTS, HostedAttention
from resonant.models.vision_configs import VisionAttentionConfig

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 48, "image_size": 32, "patch_size": 4}


def model(kind: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **options)
    return getattr(transformers, f"{kind}Model")(config).double().eval()


KINDS: list[tuple[str, int, dict[str, Any]]] = [
    ("ViT", 1, {}),
    ("DeiT", 2, {}),
    ("Dinov2", 1, {}),
    ("Dinov2WithRegisters", 5, {"num_register_tokens": 4}),
    ("ViTMSN", 1, {}),
    ("IJepa", 0, {}),
]
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def seen(host: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return host(X).last_hidden_state


@pytest.mark.parametrize(("kind", "first", "options"), KINDS, ids=[k for k, *_ in KINDS])
def test_softmax_changes_nothing_and_unswap_brings_it_back(
    kind: str, first: int, options: dict[str, Any]
) -> None:
    host = model(kind, **options)
    before = seen(host)
    names = swap(host, "softmax")
    assert len(names) == 3
    torch.testing.assert_close(seen(host), before)
    swap(host, "krause", neighborhood=Grid(8, 8, 1, global_tokens=first), top_k=2)
    with record_paths() as taken:
        after = seen(host)
    assert taken == ["gathered"] * 3
    assert not torch.allclose(after, before)
    assert len(unswap(host)) == 3
    torch.testing.assert_close(seen(host), before)
    unswap(host)
    assert torch.equal(seen(host), before)
    assert not any(isinstance(m, HostedAttention) for m in host.modules())


def test_top_k_by_depth_and_training() -> None:
    host = model("ViT").train()
    grid = Grid(8, 8, 2, "chebyshev")
    ks = VisionAttentionConfig(top_k=2).top_ks(3)
    for layer, top_k in enumerate(ks):
        swap(host, "krause", layers=layer, neighborhood=grid, top_k=top_k, sigma=4.5)
    inner = [m.attention for m in host.modules() if isinstance(m, HostedAttention)]
    assert [m.top_k for m in inner] == [2, 3, 4]
    host(X).last_hidden_state.square().sum().backward()
    for layer in inner:
        assert isinstance(layer, resonant.nn.KrauseAttention)
        sigma = layer.get_parameter("scalars.sigma.value")
        assert sigma.grad is not None
        assert float(sigma.grad.abs().sum()) > 0
    assert len(record_attention(host, X).layers) == 3


def test_masks_keep_their_polarity() -> None:
    """There True takes part, here it is blocked."""
    inner = resonant.nn.SoftmaxAttention(8, 2)
    hosted, x = HostedAttention(inner), torch.randn(1, 5, 8)
    allowed = torch.ones(5, 5, dtype=torch.bool).tril()
    expected, _ = inner(x, attn_mask=~allowed)
    output, weights = hosted(x, allowed[None, None], output_attentions=False)
    torch.testing.assert_close(output, expected)
    assert weights is None
    added = torch.zeros(1, 1, 5, 5).masked_fill(~allowed, torch.finfo(torch.float32).min)
    torch.testing.assert_close(hosted(x, added)[0], expected)


def test_every_host_is_a_class_of_the_library() -> None:
    homes = {"vit", "deit", "dinov2", "dinov2_with_registers", "ijepa", "vit_msn"}
    found = set()
    for home in homes:
        module = __import__(f"transformers.models.{home}.modeling_{home}", fromlist=["x"])
        found |= {name for name in HOSTS if hasattr(module, name)}
    assert found == set(HOSTS)


def test_a_grid_of_another_size_is_refused() -> None:
    host = model("ViT")
    swap(host, "krause", neighborhood=Grid(7, 7))
    with pytest.raises(ValueError, match="has 50 tokens"):
        seen(host)
