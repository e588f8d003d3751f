"""Rows that see one key: its weight is 1 whatever the logit, which therefore has no gradient."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..lift import Lift
from ..mask import as_bias

HIDDEN = -1e8  # nats: a key so far below another has the weight 0 whatever the logits


def quiet_lone_rows(lift: Lift, mask: Tensor | None, *, is_causal: bool) -> Lift:
    """Replace the query of every row that sees one key by 0, which changes no weight.

    What kernels compute for the gradient of such a logit is rounding alone, and a key a hundred
    times as long as the others (the first of a causal sequence) makes much of it. Rows are found by
    ``mask``, by ``is_causal`` and by the bias of keys. A row with a sink has a choice, and one
    without a gradient needs nothing.
    """
    if lift.sink is not None or not (lift.query.requires_grad or lift.key.requires_grad):
        return lift
    count = _keys_seen(lift, mask, is_causal=is_causal)
    if count is None:
        return lift
    # A product costs half of what masked_fill does.
    # Rows without a key are left: where large numbers hide all keys, they are weighed.
    chosen = (count != 1).unsqueeze(-1).to(lift.query.dtype)
    return replace(lift, query=lift.query * chosen)


def _keys_seen(lift: Lift, mask: Tensor | None, *, is_causal: bool) -> Tensor | None:
    """How many keys a row sees (batch or 1, head or 1, query or 1); None: more than one, all."""
    queries, keys, bias = lift.query.shape[2], lift.key.shape[2], lift.key_bias
    finite = None if bias is None else (_per_head(bias, lift) > HIDDEN).float()
    if mask is not None:
        allowed = (mask if mask.dtype == torch.bool else as_bias(mask) > HIDDEN).float()
        allowed = allowed.expand(*allowed.shape[:-1], keys)[(None,) * (4 - mask.dim())]
        # A sum of products: a (batch, head, query, key) tensor would cost a tenth of the attention.
        ones = allowed.new_ones(1, 1, keys) if finite is None else finite
        return torch.einsum("bhqk,bhk->bhq", allowed, ones)
    if finite is not None:
        return finite.cumsum(-1) if is_causal else finite.sum(-1, keepdim=True)
    if is_causal:
        return torch.arange(1, queries + 1, device=lift.query.device)[None, None]
    return lift.query.new_ones(1, 1, 1) if keys == 1 else None


def _per_head(bias: Tensor, lift: Lift) -> Tensor:
    return bias if bias.shape[1] == 1 else bias.repeat_interleave(lift.groups, dim=1)
