"""Krause attention (bounded confidence): tokens listen to those whose keys are near."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..mechanism import lift_of
from .attend import attend
from .attend.kernel import split_bias
from .lift import Lift
from .neighborhood import Full, Neighborhood


@lift_of("krause")
def krause_lift(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch key_head key dim"],
    value: Float[Tensor, "batch key_head key value_dim"],
    sigma: float | Tensor,
    *,
    origin: Float[Tensor, "key_head dim"] | None = None,
) -> Lift:
    """``logit[i, j] = -|q_i - k_j|^2 / (2 sigma^2)``, up to a constant of the row.

    Lifted as ``query' = [q, 1] / sigma^2``, ``key' = [k, -|k|^2 / 2]``: the learned width sits on
    the query, so keys cache as they are. ``sigma`` (units of q and k) is a number or a tensor of
    shape (head,) or (); infinity gives the mean over the neighbourhood, exactly.

    ``origin`` is subtracted from queries and keys first. Scores do not change when both move
    together, but their rounding does: give the expected key, never one computed from the same
    sequence, which would let the future in.

    In float16 the norm of a key, ``|k|^2 / 2``, must stay below 65504.

    Raises ``ValueError`` for a number ``sigma`` that is not above 0.

    Source: arXiv 2602.11534, Krause attention. Differs in form only: the squared query norm, a
    constant of the row, is left out, and no (query, key) matrix of distances is formed.
    """
    if isinstance(sigma, (int, float)) and not sigma > 0:
        raise ValueError(
            f"sigma is a width and must be above 0, but it is {sigma}; use a small positive width "
            "to attend to the nearest key, math.inf to attend to all alike"
        )
    dtype = query.dtype
    wide = torch.promote_types(dtype, torch.float32)
    if isinstance(sigma, (int, float)):
        sigma = torch.tensor(float(sigma), dtype=wide, device=query.device)
    precision = sigma.to(wide).pow(-2).reshape(-1, 1, 1)
    if origin is not None:
        shift = origin.to(wide).unsqueeze(1)
        # Rounded once, here; the norm below is that of the rounded key, so the two agree.
        key = (key.to(wide) - shift).to(dtype)
        groups = query.shape[1] // key.shape[1]
        query = query.to(wide) - shift.repeat_interleave(groups, dim=0)
    # By the norm: its square keeps no second copy of the keys.
    norm = torch.linalg.vector_norm(key.to(wide), dim=-1).square() * -0.5
    batch, heads, queries, _ = query.shape
    multiplier = precision.expand(batch, heads, queries, 1)
    key_columns = [column.unsqueeze(-1) for column in split_bias(norm, dtype)]
    query_columns = [multiplier] * len(key_columns)
    if len(key_columns) == 2:
        # The rounding error of the multiplier, times the leading part of the norm.
        query_columns.append(multiplier - multiplier.to(dtype).to(wide))
        key_columns.append(key_columns[0])
    lifted_query = torch.cat([query.to(wide) * precision, *query_columns], dim=-1)
    return Lift(lifted_query.to(dtype), torch.cat([key, *key_columns], dim=-1), value)


def krause_attention(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch key_head key dim"],
    value: Float[Tensor, "batch key_head key value_dim"],
    sigma: float | Tensor,
    *,
    neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
    top_k: int | None = None,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    origin: Float[Tensor, "key_head dim"] | None = None,
) -> Float[Tensor, "batch head query value_dim"]:
    """Krause attention ``sum_j softmax_j(-|q_i - k_j|^2 / (2 sigma^2)) v_j``.

    The sum runs over ``neighborhood``, then over the ``top_k`` largest logits in it. Masks are
    SDPA's: boolean True = takes part, float is added. ``sigma`` and ``origin`` as in
    ``krause_lift``; the remaining arguments, shapes and errors are those of ``attend``.

    Source: arXiv 2602.11534. Differs: top-k keeps ties, so that equal keys are treated alike on
    every path.
    """
    lift = krause_lift(query, key, value, sigma, origin=origin)
    return attend(lift, neighborhood, top_k=top_k, attn_mask=attn_mask, dropout_p=dropout_p)
