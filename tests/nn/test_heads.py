"""A mechanism where another model calls SDPA: its own scalars, causality, masks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resonant.functional import Causal, krause_attention
from resonant.functional.attend import record_paths
from resonant.nn import HeadAttention
from resonant.testing import assert_causal


class FusedQKV(nn.Module):
    """nanoGPT's attention: one projection of queries, keys and values, then SDPA."""

    def __init__(self, width: int, heads: int, attend=F.scaled_dot_product_attention) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.attend = heads, attend

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.c_attn(x).chunk(3, dim=-1)
        )
        y = self.attend(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


def drawn(*lengths: int, heads: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, heads, n, 8, generator=generator) for n in lengths]


def test_softmax_is_sdpa_whatever_the_call() -> None:
    attention = HeadAttention("softmax", 4)
    q, k, v = drawn(9, 9, 9)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()
    bias = torch.randn(9, 9)
    calls: tuple[dict[str, Any], ...] = (
        {},
        {"is_causal": True},
        {"attn_mask": mask},
        {"attn_mask": bias},
        {"enable_gqa": True},
    )
    for options in calls:
        expected = F.scaled_dot_product_attention(q, k, v, **options)
        torch.testing.assert_close(attention(q, k, v, **options), expected, atol=1e-6, rtol=1e-5)
    both = attention(q, k, v, attn_mask=bias, is_causal=True)
    whole = bias.masked_fill(~mask, -math.inf)
    torch.testing.assert_close(both, F.scaled_dot_product_attention(q, k, v, whole))
    few = k[:, :2], v[:, :2]
    grouped = F.scaled_dot_product_attention(q, few[0], few[1], enable_gqa=True)
    torch.testing.assert_close(attention(q, *few), grouped, atol=1e-6, rtol=1e-5)


def test_a_fused_projection_takes_krause_and_learns_its_width() -> None:
    torch.manual_seed(0)
    model = FusedQKV(32, 4, HeadAttention("krause", 4, sigma=2.0, neighborhood=Causal(5)))
    assert "attend.scalars.sigma.value" in dict(model.named_parameters())
    assert_causal(model.eval(), torch.randn(2, 29, 32))
    model.train()(torch.randn(2, 29, 32)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    with record_paths() as paths:
        model(torch.randn(2, 29, 32))
    assert paths == ["banded"]


def test_it_is_the_function_with_its_scalars() -> None:
    attention = HeadAttention("krause", 4, sigma=3.0, top_k=3)
    q, k, v = drawn(5, 9, 9)
    torch.testing.assert_close(attention(q, k, v), krause_attention(q, k, v, 3.0, top_k=3))


def test_what_it_cannot_do_is_refused() -> None:
    for name in ("kuramoto", "clock", "gaussian-mixture"):
        with pytest.raises(ValueError, match="no queries and keys that another model could"):
            HeadAttention(name, 4)
    with pytest.raises(TypeError, match="did you mean 'sigma'"):
        HeadAttention("krause", 4, sigmma=2.0)
    with pytest.raises(ValueError, match="top_k counts"):
        HeadAttention("krause", 4, top_k=0)
    with pytest.raises(ValueError, match="aligns the first query with the first key"):
        HeadAttention("softmax", 4)(*drawn(1, 9, 9), is_causal=True)
    with pytest.raises(TypeError, match="scale"):
        HeadAttention("softmax", 4)(*drawn(9, 9, 9), scale=1.0)
