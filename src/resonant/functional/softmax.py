"""Softmax attention: the baseline, written as every other mechanism is."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from .attend import attend
from .lift import Lift
from .neighborhood import Full, Neighborhood


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
