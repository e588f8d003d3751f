"""Blocks of queries against every key they can see: memory (block x keys), any combination."""

from __future__ import annotations

import torch
from torch import Tensor

from ..lift import Lift
from ..neighborhood import Neighborhood, reach, visible
from .explicit import recomputed_attention
from .kernel import fused_kernel

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
    gradient its weights are written out, and computed again in the backward pass.
    """
    queries, keys = lift.query.shape[2], lift.key.shape[2]
    back, ahead = reach(neighborhood)
    outputs = []
    for start in range(0, queries, BLOCK):
        stop = min(start + BLOCK, queries)
        first, last = start + keys - queries, stop - 1 + keys - queries
        low = 0 if back is None else max(0, first - back)
        high = keys if ahead is None else min(keys, last + ahead + 1)
        part = lift.queries(start, stop)
        if high <= low:
            outputs.append(part.query.new_zeros(*part.query.shape[:3], lift.value.shape[-1]))
            continue
        device = lift.query.device
        position = torch.arange(first, last + 1, device=device)
        allowed = visible(neighborhood, position, torch.arange(low, high, device=device))
        block_mask = _slice_mask(mask, slice(start, stop), slice(low, high))
        outputs.append(
            _block(part.keys(low, high), allowed, block_mask, top_k=top_k, dropout_p=dropout_p)
        )
    return torch.cat(outputs, dim=2)


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


def _block(
    part: Lift,
    allowed: Tensor | None,
    mask: Tensor | None,
    *,
    top_k: int | None,
    dropout_p: float,
) -> Tensor:
    learned = mask is not None and mask.requires_grad
    if top_k is None and dropout_p == 0.0 and not learned:
        return fused_kernel(part, merge_masks(allowed, mask))
    return recomputed_attention(part, allowed, mask, top_k=top_k, dropout_p=dropout_p)
