"""Grids: tiles of patches against the patches around them. Linear in the number of patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..lift import Lift
from ..neighborhood import Grid, Neighborhood
from .kernel import block_attention

# Patches on a side of a tile: with radius 1 a tile of 8 x 8 meets 10 x 10 keys, 1.6 times its own;
# a single patch would meet its neighbours one by one, too little work for a matrix product.
SMALLEST_TILE = 8


@dataclass(frozen=True)
class _Axis:
    """One side of the grid: ``count`` tiles of ``size`` patches, ``halo`` more seen at each end."""

    length: int
    size: int
    count: int
    halo: int

    @property
    def span(self) -> int:
        """Patches that a tile meets along this side."""
        return self.size + 2 * self.halo

    @property
    def padding(self) -> tuple[int, int]:
        """Patches that are not there, before the first and after the last."""
        return self.halo, self.halo + self.count * self.size - self.length


def _axis(length: int, radius: int) -> _Axis:
    count = -(-length // max(SMALLEST_TILE, 2 * radius))
    return _Axis(length, -(-length // count), count, halo=radius if count > 1 else 0)


def gathered_attention(
    lift: Lift,
    neighborhood: Neighborhood,
    *,
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attention among the patches of a grid; top-k and dropout act inside the neighbourhood.

    A tile of patches meets the patches around it and the global tokens, which see everything
    themselves: memory and time are (batch, head, patch, neighbour), and
    (batch, head, global, token).
    """
    assert isinstance(neighborhood, Grid)
    grid, first = neighborhood, neighborhood.global_tokens
    rows, columns = _axis(grid.height, grid.radius), _axis(grid.width, grid.radius)
    most = grid.neighbors + first
    inside = {"top_k": None if top_k is None or top_k >= most else top_k, "dropout_p": dropout_p}
    groups, (batch, heads) = lift.groups, lift.query.shape[:2]
    allowed = _allowed(grid, rows, columns, lift.query.device)
    output = block_attention(
        _tiled(lift, first, rows, columns), allowed.repeat(1, 1, groups, 1), **inside
    )
    # (batch * key_head, tile, group * patch, dim) back to rows of patches
    shape = (batch, heads // groups, rows.count, columns.count, groups, rows.size, columns.size, -1)
    patches = output.reshape(shape).permute(0, 1, 4, 2, 5, 3, 6, 7)
    full = (batch, heads, rows.count * rows.size, columns.count * columns.size, -1)
    patches = patches.reshape(full)[:, :, : grid.height, : grid.width].flatten(2, 3)
    if first == 0:
        return patches
    everywhere = block_attention(lift.queries(0, first), None, top_k=top_k, dropout_p=dropout_p)
    return torch.cat([everywhere, patches], dim=2)


def _tiled(lift: Lift, first: int, rows: _Axis, columns: _Axis) -> Lift:
    """Tiles as heads: queries of each against the global keys and those around it."""
    groups, key_heads = lift.groups, lift.key.shape[1]

    def around(tensor: Tensor) -> Tensor:
        """(batch, key_head, key, dim) -> (batch * key_head, tile, key, dim)."""
        tensor = tensor.expand(lift.key.shape[0], key_heads, -1, -1)
        tiles = _cut(tensor[:, :, first:], rows, columns, halo=True).flatten(0, 1)
        shared = tensor[:, :, :first].flatten(0, 1).unsqueeze(1)
        return torch.cat([shared.expand(-1, tiles.shape[1], -1, -1), tiles], dim=2)

    def own(tensor: Tensor) -> Tensor:
        """(batch, head, query, dim) -> (batch * key_head, tile, group * query, dim)."""
        tiles = _cut(tensor[:, :, first:], rows, columns, halo=False)
        grouped = tiles.unflatten(1, (key_heads, groups)).transpose(2, 3)
        return grouped.flatten(3, 4).flatten(0, 1)

    bias, sink = lift.key_bias, lift.sink
    if sink is not None:
        sink = own(sink.expand(*lift.query.shape[:3]).unsqueeze(-1)).squeeze(-1)
    return Lift(
        own(lift.query),
        around(lift.key),
        around(lift.value),
        None if bias is None else around(bias.unsqueeze(-1)).squeeze(-1),
        sink=sink,
    )


def _cut(tensor: Tensor, rows: _Axis, columns: _Axis, *, halo: bool) -> Tensor:
    """(batch, head, patch, dim) -> (batch, head, tile, patch of tile, dim).

    Zeros stand where there is no patch.
    """
    tensor = tensor.unflatten(2, (rows.length, columns.length))
    (top, bottom), (left, right) = rows.padding, columns.padding
    sizes = (rows.span, columns.span)
    if not halo:
        top, bottom, left, right = 0, bottom - rows.halo, 0, right - columns.halo
        sizes = (rows.size, columns.size)
    if top or bottom or left or right:
        tensor = F.pad(tensor, (0, 0, left, right, top, bottom))
    tiles = tensor.unfold(2, sizes[0], rows.size).unfold(3, sizes[1], columns.size)
    return tiles.permute(0, 1, 2, 3, 5, 6, 4).flatten(4, 5).flatten(2, 3)


def _allowed(grid: Grid, rows: _Axis, columns: _Axis, device: torch.device) -> Tensor:
    """(1, tile, query, key): near, and a patch that there is; global keys first."""
    row_near, row_there = _along(rows, device)
    column_near, column_there = _along(columns, device)
    # (row of tile, column of tile, row of key, column of key)
    near = grid.near(row_near[:, None, :, None], column_near[None, :, None, :])
    near = near.flatten(2, 3).flatten(0, 1)
    there = row_there[:, None, :, None] & column_there[None, :, None, :]
    there = there.flatten(2, 3).flatten(0, 1)
    seen = near.unsqueeze(0) & there.unsqueeze(1)
    return F.pad(seen, (grid.global_tokens, 0), value=True).unsqueeze(0)


def _along(axis: _Axis, device: torch.device) -> tuple[Tensor, Tensor]:
    """Along one side: distances (query, key) in a tile, and which keys are there (tile, key)."""
    query = torch.arange(axis.size, device=device)
    key = torch.arange(axis.span, device=device) - axis.halo
    start = axis.size * torch.arange(axis.count, device=device)
    position = start.unsqueeze(-1) + key
    return query.unsqueeze(-1) - key, (position >= 0) & (position < axis.length)
