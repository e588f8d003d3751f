"""Blocks of queries against every key they can see: memory (block x keys), any combination."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..lift import Lift
from ..neighborhood import Causal, Full, Neighborhood, reach
from ..pair import Gaussian
from .blocks import (
    LONG_PAST,
    MANY_KEYS,
    SHORTEST_AMONG_MANY,
    SHORTEST_BLOCK,
    cut_keys,
    gaussian_blocks,
    keys_in_reach,
)
from .explicit import recomputed_attention, same_document
from .first import at, first_before, first_of, is_first, joined, mask_with_first, seen
from .kernel import fold_pair, fused_kernel

BLOCK = 128


def chunked_attention(
    lift: Lift,
    neighborhood: Neighborhood,
    mask: Tensor | None = None,
    *,
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attention block by block of queries.

    A block runs on the fused kernel where it can; with top-k, dropout or a mask that needs a
    gradient its weights are written out, and computed again in the backward pass. So are they for
    a pair that cannot be lifted (see ``gaussian_blocks``). A Gaussian over everything, or over the
    whole past, meets only the keys in its reach.
    """
    queries, keys = lift.query.shape[2], lift.key.shape[2]
    # What counts as a tie among the top k depends on the range of all logits: none are dropped.
    alone = mask is None and lift.documents is None and top_k is None
    causal = isinstance(neighborhood, Causal) and neighborhood.window is None
    alone = alone and (isinstance(neighborhood, Full) or (causal and keys >= LONG_PAST))
    shortest = SHORTEST_AMONG_MANY if alone and keys >= MANY_KEYS else SHORTEST_BLOCK
    bounds = None
    if isinstance(lift.pair, Gaussian):
        bounds = gaussian_blocks(lift.pair, shortest)
    direct = lift.pair is not None and bounds is None
    spans = None if bounds is None or not alone else _spans(lift, bounds, causal=causal)
    sides = None if spans is None else cut_keys(lift, spans)
    bounds = bounds or [*range(0, queries, BLOCK), queries]
    blocks = [*itertools.pairwise(bounds)]
    ranges = spans or [_range(neighborhood, queries, keys, block) for block in blocks]
    stay = None
    if first_of(neighborhood):
        stay = _Staying.of(lift, first_of(neighborhood), [low for low, _ in ranges])
    outputs = []
    for index, ((start, stop), (low, high)) in enumerate(zip(blocks, ranges, strict=True)):
        part = lift.queries(start, stop)
        if high <= low:
            outputs.append(part.query.new_zeros(*part.query.shape[:3], lift.value.shape[-1]))
            continue
        device = lift.query.device
        position = torch.arange(start, stop, device=device) + keys - queries
        places = (position, torch.arange(low, high, device=device))
        allowed = seen(neighborhood, *places, None if stay is None else stay.first[:, low:high])
        block_mask = _slice_mask(mask, slice(start, stop), slice(low, high))
        learned = mask is not None and mask.requires_grad
        part = part.keys(low, high) if sides is None else part.with_key_side(sides[index])
        if stay is not None:
            rows = _slice_mask(mask, slice(start, stop), slice(None))
            part, allowed, block_mask = stay.joined(index, part, allowed, (block_mask, rows))
        if direct or learned or top_k is not None or dropout_p > 0.0:
            options = {"top_k": top_k, "dropout_p": dropout_p}
            outputs.append(recomputed_attention(part, allowed, block_mask, **options))
        else:
            outputs.append(_fused_block(part, allowed, block_mask))
    return torch.cat(outputs, dim=2)


def _range(
    neighborhood: Neighborhood, queries: int, keys: int, block: tuple[int, int]
) -> tuple[int, int]:
    """The keys between the first and the last that a block of queries sees in its window."""
    back, ahead = reach(neighborhood)
    start, stop = (place + keys - queries for place in block)
    low = 0 if back is None else max(0, start - back)
    return low, keys if ahead is None else min(keys, stop + ahead)


@dataclass(frozen=True)
class _Staying:
    """First keys that stay visible: of all keys which they are, and those before each block's."""

    first: Tensor  # (batch or 1, key)
    keys: Lift  # those before each block, one block after the other
    index: Tensor  # (batch or 1, block, slot): where they stand

    @staticmethod
    def of(lift: Lift, count: int, lows: list[int]) -> _Staying:
        """Find them for blocks whose other keys begin at ``lows``."""
        index, there = first_before(lift, count, lows)
        return _Staying(is_first(lift, count), at(lift, index.flatten(1), there.flatten(1)), index)

    def joined(
        self,
        block: int,
        part: Lift,
        allowed: Tensor | None,
        masks: tuple[Tensor | None, Tensor | None],
    ) -> tuple[Lift, Tensor, Tensor | None]:
        """Put them before the keys of a block, before what it may see and before its mask.

        ``masks`` are the mask over the block's keys, and over all.
        """
        assert allowed is not None
        count, (mask, rows) = self.index.shape[2], masks
        part = joined(self.keys.keys(block * count, (block + 1) * count), part)
        allowed = F.pad(allowed, (count, 0), value=True)
        if mask is not None and rows is not None and mask.shape[3] > 1:
            mask = mask_with_first(rows, mask, self.index[:, block])
        return part, allowed, mask


def _spans(lift: Lift, bounds: list[int], *, causal: bool) -> list[tuple[int, int]]:
    """The keys that each block of queries meets: those in its reach, and before its last query."""
    queries, keys = lift.query.shape[2], lift.key.shape[2]
    reached = keys_in_reach(lift, bounds, causal=causal)
    ends = [max(b + keys - queries, 0) if causal else keys for b in bounds[1:]]
    return [(low, min(high, end)) for (low, high), end in zip(reached, ends, strict=True)]


def _slice_mask(mask: Tensor | None, queries: slice, keys: slice) -> Tensor | None:
    if mask is None:
        return None
    if mask.shape[2] > 1:
        mask = mask[:, :, queries]
    return mask[..., keys] if mask.shape[3] > 1 else mask


def merge_masks(allowed: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """A rule of positions and a user's mask, intersected into one mask for the fused kernel."""
    if mask is None or allowed is None:
        return allowed if mask is None else mask
    if mask.dtype == torch.bool:
        return mask & allowed
    return mask.masked_fill(~allowed, float("-inf"))


def _fused_block(part: Lift, allowed: Tensor | None, mask: Tensor | None) -> Tensor:
    mask = merge_masks(allowed, mask)
    if part.documents is not None:
        mask = merge_masks(same_document(part.documents), mask)
        part = replace(part, documents=None)
    return fused_kernel(part if part.pair is None else fold_pair(part), mask)
