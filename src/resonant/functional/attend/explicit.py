"""Attention with its weights written out, for one block of queries against its keys.

The readable form: every other path is this one or is compared with it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..lift import Lift
from ..mask import as_bias

# Logits this close to the k-th largest, relative to the row's range, count as ties with it: equal
# keys are a rounding error apart, and which one survives must not depend on the path taken.
TIE_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def logits(lift: Lift) -> Tensor:
    """``<query, key> + key_bias`` as (batch, head, query, key), in float32 or better."""
    batch, heads, queries, dim = lift.query.shape
    wide = torch.promote_types(lift.query.dtype, torch.float32)
    # Query heads of a group are folded into the query axis, so that keys are never repeated.
    query = lift.query.to(wide).reshape(batch, lift.key.shape[1], -1, dim)
    scores = query @ lift.key.to(wide).transpose(-2, -1)
    if lift.key_bias is not None:
        scores = scores + lift.key_bias.to(wide).unsqueeze(2)
    return scores.reshape(batch, heads, queries, -1)


def restrict(scores: Tensor, allowed: Tensor | None, mask: Tensor | None) -> Tensor:
    """Logits with every source of masking intersected: -inf where a key takes no part."""
    if mask is not None:
        scores = scores + as_bias(mask)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return scores


def keep_top(scores: Tensor, top_k: int) -> Tensor:
    """Mask all logits below the ``top_k``-th largest of their row, ties kept.

    Kept is ``logit >= kth - tolerance * (max - min)`` with the range over visible keys: the range,
    unlike the size, does not depend on a constant added to the row.
    """
    count = scores.shape[-1]
    if top_k >= count:
        return scores
    with torch.no_grad():
        seen = scores.detach()
        kth = seen.topk(top_k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        hidden = seen == float("-inf")
        lowest = seen.masked_fill(hidden, float("inf")).amin(-1, keepdim=True)
        spread = seen.amax(-1, keepdim=True) - lowest
        drop = seen < kth - TIE_TOLERANCE[scores.dtype] * spread
    return scores.masked_fill(drop, float("-inf"))


def softmax(scores: Tensor) -> Tensor:
    """Softmax over keys; a row that sees nothing gives zeros, with zero gradients."""
    dead = scores.amax(-1, keepdim=True) == float("-inf")
    weights = torch.softmax(scores.masked_fill(dead, 0.0), dim=-1)
    return weights.masked_fill(dead, 0.0)


def weights(lift: Lift, allowed: Tensor | None, mask: Tensor | None, top_k: int | None) -> Tensor:
    """Attention weights (batch, head, query, key), in float32 or better."""
    scores = restrict(logits(lift), allowed, mask)
    if top_k is not None:
        scores = keep_top(scores, top_k)
    return softmax(scores)


def explicit_attention(
    lift: Lift,
    allowed: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """``dropout(softmax(logits)) @ value`` with the weights in memory."""
    attention = weights(lift, allowed, mask, top_k)
    if dropout_p > 0.0:
        attention = F.dropout(attention, dropout_p)
    batch, heads, queries, keys = attention.shape
    folded = attention.to(lift.value.dtype).reshape(batch, lift.key.shape[1], -1, keys)
    return (folded @ lift.value).reshape(batch, heads, queries, -1)
