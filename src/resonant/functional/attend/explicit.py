"""Attention with its weights written out, for one block of queries against its keys.

The readable form: every other path is this one or is compared with it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..lift import Documents, Lift
from ..mask import as_bias

# Logits this close to the k-th largest, relative to the row's range, count as ties with it: equal
# keys are a rounding error apart, and which one survives must not depend on the path taken.
TIE_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
# Rounding leaves this many eps of the parts that a logit is the sum of, whatever the range.
TIE_FLOOR = 8
# Nats; finite in every dtype, and beside a sink this low every other key has all the weight.
LOWEST_SINK = -60_000.0
WIDEST_RANGE = 1000.0  # nats below the largest logit; exp(-1000) is 0 in every dtype


def logits(lift: Lift) -> Tensor:
    """``<query, key> + key_bias + pair`` as (batch, head, query, key), in float32 or better.

    Keys of other documents get -inf.
    """
    batch, heads, queries, dim = lift.query.shape
    wide = torch.promote_types(lift.query.dtype, torch.float32)
    # Query heads of a group are folded into the query axis, so that keys are never repeated.
    folded = (batch, lift.key.shape[1], lift.groups * queries, dim)
    query = lift.query.to(wide).reshape(folded)
    scores = query @ lift.key.to(wide).transpose(-2, -1)
    if lift.key_bias is not None:
        scores = scores + lift.key_bias.to(wide).unsqueeze(2)
    scores = scores.reshape(batch, heads, queries, lift.key.shape[2])
    if lift.pair is not None:
        scores = scores + lift.pair.logits(lift.groups, wide)
    if lift.documents is not None:
        scores = scores.masked_fill(~same_document(lift.documents), -math.inf)
    return scores


def same_document(documents: Documents) -> Tensor:
    """Boolean (batch or 1, 1, query, key), True within one document."""
    return (documents.query.unsqueeze(-1) == documents.key.unsqueeze(-2)).unsqueeze(1)


def hidden_by_rank(scores: Tensor, top_k: int, parts: Tensor) -> Tensor:
    """Find all logits below the ``top_k``-th largest of their row, ties kept: True there.

    Kept is ``logit >= kth - max(tolerance * (max - min), 8 eps * largest part)``, both over visible
    keys. The range, unlike the size, does not depend on a constant added to the row; ``parts`` (see
    ``logit_parts``) tell what rounding leaves where the range is small. Keys more than 1000 nats
    below the largest logit do not count.
    """
    kth = scores.topk(top_k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    highest = scores.amax(-1, keepdim=True)
    # Keys that a mask of -1e9 all but blocks have no weight, and no say in what counts as a tie.
    remote = scores < highest - WIDEST_RANGE
    lowest = scores.masked_fill(remote, math.inf).amin(-1, keepdim=True)
    tolerance = TIE_TOLERANCE[scores.dtype] * (highest - lowest)
    floor = TIE_FLOOR * torch.finfo(scores.dtype).eps
    largest = parts.masked_fill(remote, 0.0).amax(-1, keepdim=True)
    return scores < kth - torch.maximum(tolerance, floor * largest)


def logit_parts(lift: Lift) -> Tensor:
    """``sum_c |query_c key_c| + |key_bias|`` as (batch, head, query, key): what a logit adds up.

    A pair is left out: its difference is formed before it is rounded.
    """
    sizes = {"query": lift.query.abs(), "key": lift.key.abs()}
    bias = lift.key_bias
    if bias is not None:  # a key that takes no part has no parts
        sizes["key_bias"] = bias.abs().masked_fill(bias.isinf(), 0.0)
    return logits(replace(lift, pair=None, documents=None, **sizes))


def weights_and_sight(
    lift: Lift, allowed: Tensor | None, mask: Tensor | None, top_k: int | None
) -> tuple[Tensor, Tensor]:
    """Softmax over the keys that take part, and which queries have any (..., query, 1).

    The weights of a query that sees nothing are meaningless, and must be multiplied by its sight.
    """
    scores = logits(lift)
    if mask is not None:
        scores = scores + as_bias(mask)
    # What is filled in needs no record for the backward pass: where a weight is exactly 0, so is
    # the gradient of its logit, and a query without sight gets none.
    with torch.no_grad():
        if allowed is not None:
            scores.masked_fill_(~allowed, -math.inf)
        # An exported program does not ask which is larger: it has at least that many keys.
        if top_k is not None and (torch.compiler.is_exporting() or top_k < scores.shape[-1]):
            scores.masked_fill_(hidden_by_rank(scores, top_k, logit_parts(lift)), -math.inf)
        blind = scores.amax(-1, keepdim=True) == -math.inf
        scores.masked_fill_(blind, 0.0)
    attention = torch.softmax(scores, dim=-1)
    if lift.sink is not None:
        sink = lift.sink.to(scores.dtype).clamp(min=LOWEST_SINK).unsqueeze(-1)
        attention = attention * torch.sigmoid(scores.logsumexp(-1, keepdim=True) - sink)
    return attention, ~blind


def weights(lift: Lift, allowed: Tensor | None, mask: Tensor | None, top_k: int | None) -> Tensor:
    """Attention weights (batch, head, query, key), in float32 or better."""
    attention, sight = weights_and_sight(lift, allowed, mask, top_k)
    return attention * sight


def explicit_attention(
    lift: Lift,
    allowed: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """``dropout(softmax(logits)) @ value`` with the weights in memory."""
    attention, sight = weights_and_sight(lift, allowed, mask, top_k)
    if dropout_p > 0.0:
        attention = F.dropout(attention, dropout_p)
    batch, heads, queries, keys = attention.shape
    # Sizes in full: an exported program cannot work them out of a product of lengths.
    shape = (batch, lift.key.shape[1], lift.groups * queries, keys)
    folded = attention.to(lift.value.dtype).reshape(shape)
    return (folded @ lift.value).reshape(batch, heads, queries, lift.value.shape[3]) * sight


def recomputed_attention(
    lift: Lift,
    allowed: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """``explicit_attention`` whose weights are computed again in the backward pass, not kept."""

    def run(*tensors: Tensor | None):
        block = lift.with_tensors(tensors[:-1])
        return explicit_attention(block, allowed, tensors[-1], top_k=top_k, dropout_p=dropout_p)

    arguments = (*lift.tensors(), mask)
    if not torch.is_grad_enabled():
        return run(*arguments)
    output = checkpoint(run, *arguments, use_reentrant=False, preserve_rng_state=dropout_p > 0.0)
    assert isinstance(output, Tensor)
    return output
