"""Windows: blocks of queries against the band of keys they can see. Linear in the length."""

from __future__ import annotations

import torch
from torch import Tensor

from ..lift import Lift
from ..neighborhood import Neighborhood, reach, visible
from .explicit import explicit_attention
from .kernel import fused_kernel

# Blocks of half the reach see 1.5 windows of keys a query instead of 2; below 32 queries the
# kernel's own overhead costs more than the keys it saves.
SMALLEST_BLOCK = 32


def block_size(back: int, ahead: int, queries: int) -> int:
    """Queries per block."""
    half = -(-max(back, ahead) // 2)
    return min(max(half, SMALLEST_BLOCK), queries)


def banded_attention(
    lift: Lift,
    neighborhood: Neighborhood,
    *,
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attention inside a window or band; top-k and dropout act inside the band.

    Each block of b queries meets ``before + 1 + after`` blocks of b keys, built by concatenating
    shifted views, so that memory and time are (batch, head, query, window).
    """
    back, ahead = reach(neighborhood)
    if back is None or ahead is None:
        raise AssertionError("a band has two ends")
    queries, keys = lift.query.shape[2], lift.key.shape[2]
    block = block_size(back, ahead, queries)
    before, after = -(-back // block), -(-ahead // block)
    count = -(-queries // block)
    offset = keys - queries
    span = (offset - before * block, offset + (count + after) * block)

    def band(tensor: Tensor) -> Tensor:
        """(batch, key_head, key, dim) -> (batch * key_head, block, band, dim)."""
        padded = _slice_padded(tensor, *span)
        blocks = padded.unflatten(2, (-1, block))
        shifted = [blocks[:, :, shift : shift + count] for shift in range(before + 1 + after)]
        return torch.cat(shifted, dim=3).flatten(0, 1)

    bias = lift.key_bias
    if bias is not None:
        bias = band(bias.expand(*lift.key.shape[:3]).unsqueeze(-1)).squeeze(-1)
    folded = Lift(_fold(lift, block, count), band(lift.key), band(lift.value), bias)
    allowed = _allowed(neighborhood, block, count, offset, keys, lift.query.device)
    if lift.groups > 1:
        allowed = allowed.repeat(1, lift.groups, 1)
    if top_k is None and dropout_p == 0.0:
        output = fused_kernel(folded, allowed.unsqueeze(0))
    else:
        output = explicit_attention(folded, allowed, top_k=top_k, dropout_p=dropout_p)
    return _unfold(output, lift, block, count)


def _slice_padded(tensor: Tensor, start: int, stop: int) -> Tensor:
    """``tensor[:, :, start:stop]`` with zeros where the range leaves the tensor."""
    length = tensor.shape[2]
    low, high = max(start, 0), min(stop, length)
    return _pad(tensor[:, :, low:high], low - start, stop - high)


def _pad(tensor: Tensor, before: int, after: int) -> Tensor:
    """Zeros before and after along the sequence.

    By concatenation: `F.pad` by nothing keeps the strides of its input, which compiled graphs with
    free sizes take for contiguous.
    """
    batch, heads, _, dim = tensor.shape
    head = tensor.new_zeros(batch, heads, before, dim)
    tail = tensor.new_zeros(batch, heads, after, dim)
    return torch.cat([head, tensor, tail], dim=2)


def _fold(lift: Lift, block: int, count: int) -> Tensor:
    """Queries as (batch * key_head, block, group * query, dim)."""
    batch, _, queries, dim = lift.query.shape
    padded = _pad(lift.query, 0, count * block - queries)
    shape = (batch * lift.key.shape[1], lift.groups, count, block, dim)
    return padded.reshape(shape).transpose(1, 2).flatten(2, 3)


def _unfold(output: Tensor, lift: Lift, block: int, count: int) -> Tensor:
    batch, heads, queries, _ = lift.query.shape
    split = output.unflatten(2, (lift.groups, block)).transpose(1, 2)
    return split.reshape(batch, heads, count * block, -1)[:, :, :queries]


def _allowed(
    neighborhood: Neighborhood,
    block: int,
    count: int,
    offset: int,
    keys: int,
    device: torch.device,
) -> Tensor:
    """(block, query, band): inside the neighbourhood, and a key that exists."""
    back, ahead = reach(neighborhood)
    before, after = -(-(back or 0) // block), -(-(ahead or 0) // block)
    inside = torch.arange(block, device=device)
    along = torch.arange(-before * block, (after + 1) * block, device=device)
    seen = visible(neighborhood, inside, along)
    assert seen is not None
    start = offset + block * torch.arange(count, device=device)
    position = start.unsqueeze(-1) + along
    exists = (position >= 0) & (position < keys)
    return seen.unsqueeze(0) & exists.unsqueeze(1)
