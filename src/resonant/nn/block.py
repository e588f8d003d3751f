"""The parts of a transformer around attention."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .attention import Attention


class SwiGLU(nn.Module):
    """``W_down (silu(W_gate x) * W_up x)``.

    Source: Shazeer, "GLU Variants Improve Transformer" (arXiv 2002.05202), equation 6.
    """

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(embed_dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(embed_dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, embed_dim, bias=False)

    def forward(self, x: Float[Tensor, "batch sequence embed"]) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Pre-norm residual block: ``x + attention(norm(x))``, then ``x + feedforward(norm(x))``."""

    def __init__(self, attention: Attention, hidden_dim: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(attention.embed_dim)
        self.attention = attention
        self.feedforward_norm = nn.RMSNorm(attention.embed_dim)
        self.feedforward = SwiGLU(attention.embed_dim, hidden_dim)

    def forward(self, x: Float[Tensor, "batch sequence embed"], **options: Any) -> Tensor:
        """Options (``key_padding_mask``, ``cache``, ``documents``) go to the attention."""
        attended, _ = self.attention(self.attention_norm(x), is_causal=True, **options)
        x = x + attended
        return x + self.feedforward(self.feedforward_norm(x))
