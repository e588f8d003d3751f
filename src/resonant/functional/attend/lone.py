"""Rows that see one key: its weight is 1 whatever the logit, which therefore has no gradient."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..lift import Lift
from ..neighborhood import Causal, Full, Neighborhood


def quiet_lone_rows(lift: Lift, neighborhood: Neighborhood) -> Lift:
    """Replace the query of every row that sees one key by 0, which changes no weight.

    What kernels compute for the gradient of such a logit is rounding alone, and a key a hundred
    times as long as the others (the first of a causal sequence) makes much of it. Rows are told by
    positions and by the bias of keys; without a sink, which the logit is compared with.
    """
    lone = _lone(lift, neighborhood)
    if lone is None:
        return lift
    return replace(lift, query=lift.query.masked_fill(lone.unsqueeze(-1), 0.0))


def _lone(lift: Lift, neighborhood: Neighborhood) -> Tensor | None:
    """(batch or 1, head or 1, query or 1) True where at most one key is seen; None for nowhere."""
    queries, keys, bias = lift.query.shape[2], lift.key.shape[2], lift.key_bias
    if isinstance(neighborhood, Causal):
        window = neighborhood.window
        if bias is None and queries < keys and window != 1:
            return None
        own = torch.arange(queries, device=lift.query.device) + (keys - queries)
        if bias is None:
            count = own + 1 if window is None else (own + 1).clamp(max=window)
            return (count <= 1)[None, None]
        total = torch.nn.functional.pad((_per_head(bias, lift) != -math.inf).cumsum(-1), (1, 0))
        count = total[..., (own + 1).clamp(min=0)]
        if window is not None:
            count = count - total[..., (own + 1 - window).clamp(min=0)]
        return count <= 1
    if isinstance(neighborhood, Full) and bias is not None:
        return (_per_head(bias, lift) != -math.inf).sum(-1, keepdim=True) <= 1
    return None


def _per_head(bias: Tensor, lift: Lift) -> Tensor:
    return bias if bias.shape[1] == 1 else bias.repeat_interleave(lift.groups, dim=1)
