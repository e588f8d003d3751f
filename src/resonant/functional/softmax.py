"""Softmax attention: the baseline, written as every other mechanism is."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..mechanism import lift_of
from .attend import attend
from .lift import Lift
from .neighborhood import Full, Neighborhood


@lift_of("softmax")
def softmax_lift(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch key_head key dim"],
    value: Float[Tensor, "batch key_head key value_dim"],
    *,
    scale: float | None = None,
) -> Lift:
    """``logit[i, j] = scale <q_i, k_j>``, with scale = 1 / sqrt(dim) unless given.

    Source: Vaswani et al., "Attention Is All You Need" (2017), equation 1.
    """
    return Lift(query * (query.shape[-1] ** -0.5 if scale is None else scale), key, value)


@lift_of("softmax-sink")
def sink_lift(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch key_head key dim"],
    value: Float[Tensor, "batch key_head key value_dim"],
    sink: float | Float[Tensor, "#head"],
) -> Lift:
    """Softmax with a learned sink: ``A_ij = exp(s_ij) / (exp(sink_h) + sum_j exp(s_ij))``.

    A head may attend to nothing at all: what the sink takes goes to no value. ``sink`` (nats) is a
    number or a tensor (head,); -inf is plain softmax. A baseline for mechanisms that claim to need
    no sink.

    Source: the learned bias in the denominator of OpenAI's gpt-oss models (2025); attention sinks
    as such: Xiao et al. (arXiv 2309.17453).
    """
    lift = softmax_lift(query, key, value)
    wide = torch.promote_types(query.dtype, torch.float32)
    each = torch.as_tensor(sink, device=query.device).to(wide).reshape(1, -1, 1)
    return replace(lift, sink=each.expand(1, query.shape[1], 1))


def softmax_attention(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch key_head key dim"],
    value: Float[Tensor, "batch key_head key value_dim"],
    *,
    neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
    top_k: int | None = None,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> Float[Tensor, "batch head query value_dim"]:
    """Softmax attention ``softmax(scale q k^T) v``.

    Masks are SDPA's: boolean True = takes part, float is added. Causality comes from
    ``neighborhood=Causal()`` and is bottom-right. The remaining arguments, shapes and errors are
    those of ``attend``. Source: see ``softmax_lift``.
    """
    lift = softmax_lift(query, key, value, scale=scale)
    return attend(lift, neighborhood, top_k=top_k, attn_mask=attn_mask, dropout_p=dropout_p)
