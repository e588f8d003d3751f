"""The baseline language model in plain PyTorch, as one would write it without this library."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PlainBlock(nn.Module):
    """Pre-norm attention with rotary positions, then SwiGLU."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, length, self.heads, -1).transpose(1, 2)

        def turn(y: Tensor) -> Tensor:
            first, second = y.chunk(2, dim=-1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

        y = self.norms[0](x)
        query, key, value = turn(split(self.q(y))), turn(split(self.k(y))), split(self.v(y))
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.o(attended.transpose(1, 2).reshape(batch, length, width))
        y = self.norms[1](x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class PlainModel(nn.Module):
    """Tied embedding, blocks, norm."""

    def __init__(
        self, vocabulary: int, *, layers: int, width: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(PlainBlock(width, heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.pairs = width // heads // 2

    def forward(self, tokens: Tensor) -> Tensor:
        frequencies = 10_000.0 ** (-torch.arange(self.pairs) / self.pairs)
        angle = torch.arange(tokens.shape[1]).unsqueeze(-1) * frequencies
        cos, sin = angle.cos(), angle.sin()
        x = self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.linear(self.norm(x), self.embedding.weight)
