"""The fused kernel: `torch.nn.functional.scaled_dot_product_attention` on a lift."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..lift import Lift
from ..mask import as_bias
from ..pair import Gaussian, middle
from .explicit import LOWEST_SINK, explicit_attention
from .lone import quiet_lone_rows


def fused_kernel(lift: Lift, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
    """Attention over a lift without its weights in memory.

    ``mask`` is boolean or float, constant, and broadcasts to (batch, head, query, key).
    ``is_causal`` is SDPA's: only for as many queries as keys. A pair has to be folded before.
    """
    assert lift.pair is None
    assert lift.documents is None
    lift = quiet_lone_rows(lift, mask, is_causal=is_causal)
    query, key, value = append_bias(lift)
    blind_queries = 0
    if lift.sink is not None:
        query, key, value = _append_sink(lift.sink, query, key, value)
        if is_causal:  # the sink comes first, so that every query sees it, and brings a query
            query, blind_queries = F.pad(query, (0, 0, 1, 0)), 1
        elif mask is not None:
            mask = mask.expand(*mask.shape[:-1], lift.key.shape[-2])
            mask = F.pad(mask, (1, 0), value=True if mask.dtype == torch.bool else 0.0)
    if mask is not None and mask.dtype != torch.bool:
        # The kernel misreads a float32 mask beside float64 queries, and takes finfo.min literally.
        mask = as_bias(mask).to(torch.promote_types(torch.float32, query.dtype))
    width, value_width = query.shape[-1], value.shape[-1]
    # The fused kernel wants one width for all three; otherwise it materializes silently.
    if value_width < width:
        value = F.pad(value, (0, width - value_width))
    elif value_width > width:
        query = F.pad(query, (0, value_width - width))
        key = F.pad(key, (0, value_width - width))
    # A branch rather than a comparison: compiled graphs with free sizes need a plain bool.
    grouped = True if lift.groups > 1 else False  # noqa: SIM210
    output = F.scaled_dot_product_attention(
        query, key, value, mask, is_causal=is_causal, scale=1.0, enable_gqa=grouped
    )
    return output[:, :, blind_queries:, :value_width]


def block_attention(
    lift: Lift, allowed: Tensor | None, *, top_k: int | None, dropout_p: float
) -> Tensor:
    """Blocks of queries against their own keys: fused, or written out where it must be."""
    if top_k is None and dropout_p == 0.0:
        return fused_kernel(lift, allowed)
    return explicit_attention(lift, allowed, top_k=top_k, dropout_p=dropout_p)


def append_bias(lift: Lift) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value with the key bias as further features: query gets 1, key the bias."""
    query, key, bias = lift.query, lift.key, lift.key_bias
    if bias is None:
        return query, key, lift.value
    columns = split_bias(bias, key.dtype)
    expanded = [c.unsqueeze(-1).expand(*key.shape[:3], 1) for c in columns]
    ones = query.new_ones(1).expand(*query.shape[:3], len(columns))
    return torch.cat([query, ones], dim=-1), torch.cat([key, *expanded], dim=-1), lift.value


def _append_sink(
    sink: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A first key that only the sink's feature meets, with the value 0."""
    columns = split_bias(sink.clamp(min=LOWEST_SINK), query.dtype)
    expanded = [c.unsqueeze(-1).expand(*query.shape[:3], 1) for c in columns]
    width = key.shape[-1]
    key = F.pad(key, (0, len(columns), 1, 0))
    is_sink = F.pad(key.new_ones(1, len(columns)), (width, 0, 0, key.shape[2] - 1))
    return torch.cat([query, *expanded], dim=-1), key + is_sink, F.pad(value, (0, 0, 1, 0))


def fold_pair(lift: Lift) -> Lift:
    """The pair as two more features, the origin moved to the middle of the queries.

    ``-p/2 (i - j)^2 = p i j - p/2 j^2`` up to a constant of the row (which a sink is told): query
    ``[p i, -p/2]``, key ``[j, j^2]``, in float32 or better. Exact for queries within 4 standard
    deviations.
    """
    pair = lift.pair
    assert isinstance(pair, Gaussian)
    wide = torch.promote_types(lift.query.dtype, torch.float32)
    origin = middle(pair.query)
    if origin.shape[1] > 1 and lift.groups > 1:  # each head has an origin, so each needs its keys
        lift = lift.ungrouped()
        pair = lift.pair
        assert isinstance(pair, Gaussian)
    query, key = (pair.query - origin).to(wide), (pair.key - origin).to(wide)
    precision = pair.precision.to(wide)
    heads, keys = lift.query.shape[:3], lift.key.shape[:3]
    query_columns = ((query * precision).expand(heads), (-0.5 * precision).expand(heads))
    key_columns = (key.expand(keys), key.square().expand(keys))
    sink = lift.sink
    if sink is not None:  # it is compared with the logits, so the row's constant counts
        sink = sink + 0.5 * precision * query.square()
    return replace(
        lift,
        query=torch.cat([lift.query.to(wide), torch.stack(query_columns, -1)], dim=-1),
        key=torch.cat([lift.key.to(wide), torch.stack(key_columns, -1)], dim=-1),
        value=lift.value.to(wide),
        pair=None,
        sink=sink,
    )


def split_bias(bias: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """A bias as columns in ``dtype`` whose sum is the bias: two of them in low precision.

    ``high = round(bias)``, ``low = round(bias - high)``; high keeps its gradient. -inf, and what
    overflows to it (-1e9 in float16), is not split: its rest is not a number.
    """
    high = bias.to(dtype)
    if dtype in (torch.float32, torch.float64):
        return [high]
    rest = bias - high.to(bias.dtype)
    return [high, rest.masked_fill(high.isinf(), 0.0).to(dtype)]
