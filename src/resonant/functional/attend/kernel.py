"""The fused kernel: `torch.nn.functional.scaled_dot_product_attention` on a lift."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..lift import Lift
from ..mask import as_bias


def fused_kernel(lift: Lift, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
    """Attention over a lift without its weights in memory.

    ``mask`` is boolean or float, constant, and broadcasts to (batch, head, query, key).
    ``is_causal`` is SDPA's: only for as many queries as keys.
    """
    query, key, value = append_bias(lift)
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
    return output[..., :value_width]


def append_bias(lift: Lift) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value with the key bias as further features: query gets 1, key the bias."""
    query, key, bias = lift.query, lift.key, lift.key_bias
    if bias is None:
        return query, key, lift.value
    columns = split_bias(bias, key.dtype)
    expanded = [c.unsqueeze(-1).expand(*key.shape[:3], 1) for c in columns]
    ones = query.new_ones(1).expand(*query.shape[:3], len(columns))
    return torch.cat([query, ones], dim=-1), torch.cat([key, *expanded], dim=-1), lift.value


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
