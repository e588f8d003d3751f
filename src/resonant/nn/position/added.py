"""Positions that are added to embeddings."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...functional.position import (
    ADMISSIBLE,
    morlet_constraints,
    morlet_encoding,
    rotary_frequencies,
    sinusoidal_encoding,
)
from ..parameter import WideVector


class SinusoidalPosition(nn.Module):
    """Fixed sines and cosines to add to embeddings: ``functional.sinusoidal_encoding``.

    Maps positions (batch, token) to (batch, token, embed_dim) in float32, float64 after
    ``double()``. An infinite ``base`` gives the same
    encoding everywhere. Source: Vaswani et al. (2017), section 3.5.
    """

    OFF: ClassVar[dict[str, float]] = {"base": float("inf")}
    like: Tensor

    def __init__(self, embed_dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.embed_dim, self.base = embed_dim, base
        rotary_frequencies(embed_dim, base)  # refuses what has no frequencies
        self.register_buffer("like", torch.empty(0), persistent=False)  # of the dtype asked for

    def forward(
        self, position: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token embed_dim"]:
        if self.like.dtype == torch.float64:
            position = position.double()
        return sinusoidal_encoding(position, self.embed_dim, self.base)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, base={self.base}"


class LearnedPosition(nn.Module):
    """A learned vector for each of ``max_length`` positions, to add to embeddings.

    Maps positions (batch, token) to (batch, token, embed_dim). Positions from ``max_length`` on
    have no vector: PyTorch raises ``IndexError``. Source: Gehring et al. (arXiv 1705.03122).
    """

    def __init__(self, embed_dim: int, max_length: int) -> None:
        super().__init__()
        if max_length < 1:
            raise ValueError(
                f"max_length counts positions, so it is at least 1; it is {max_length}"
            )
        self.max_length = max_length
        self.table = nn.Embedding(max_length, embed_dim)

    def forward(
        self, position: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token embed_dim"]:
        return self.table(position)


class RasterPosition(nn.Module):
    """Learned vectors of row, column and channel for numbers of a picture in raster order.

    Position t is channel ``t % channels`` of the pixel at column ``t // channels % columns`` of row
    ``t // (channels columns)``; the three vectors are added.

    Maps positions (batch, token) to (batch, token, embed_dim). Raises ``ValueError`` for a picture
    without a number; positions beyond its last have no vector: PyTorch raises ``IndexError``.
    """

    def __init__(self, embed_dim: int, rows: int, columns: int, channels: int = 1) -> None:
        super().__init__()
        if min(rows, columns, channels) < 1:
            raise ValueError(
                f"a picture has at least one number; it is {rows} x {columns} x {channels}"
            )
        self.max_length = rows * columns * channels
        self.columns, self.channels = columns, channels
        self.row = nn.Embedding(rows, embed_dim)
        self.column = nn.Embedding(columns, embed_dim)
        self.channel = nn.Embedding(channels, embed_dim)
        for table in (self.row, self.column, self.channel):
            nn.init.normal_(table.weight, std=0.25 / math.sqrt(3))  # together as an embedding

    def forward(
        self, position: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token embed_dim"]:
        pixel = position // self.channels
        place = self.row(pixel // self.columns) + self.column(pixel % self.columns)
        return place + self.channel(position % self.channels)


class MorletPosition(nn.Module):
    """Absolute Morlet positions to add to embeddings, frequencies and widths learned.

    ``PE(t)[2 c] = exp(-t^2 / (2 sigma_c^2)) cos(omega_c t)``, ``[2 c + 1]`` with sin, under
    ``functional.morlet_constraints``. Starts with omega log-spaced from 1 to 0.99 pi and
    sigma = 5 / omega: **beyond 15 tokens the encoding is below 0.2 % of its size** until training
    widens it (``extra_repr`` shows the widths).

    Maps positions (batch, token) to (batch, token, embed_dim); raises ``ValueError`` for an odd
    ``embed_dim``. Source: arXiv 2605.26355. Differs: see ``functional.morlet_constraints``.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        if embed_dim % 2:
            raise ValueError(f"Morlet positions come in pairs: embed_dim is even, not {embed_dim}")
        omega = torch.logspace(0.0, math.log10(0.99 * math.pi), embed_dim // 2)
        self.omega, self.sigma = WideVector(omega), WideVector(ADMISSIBLE / omega)

    def forward(
        self, position: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token embed_dim"]:
        return morlet_encoding(position, *morlet_constraints(self.omega(), self.sigma()))

    def extra_repr(self) -> str:
        if self.omega.value.is_meta:
            return ""
        _, sigma = morlet_constraints(self.omega.value.detach(), self.sigma.value.detach())
        return f"sigma from {sigma.min().item():.2f} to {sigma.max().item():.2f} tokens"
