"""The specification: every weight in memory, every source of masking applied in one place."""

from __future__ import annotations

from torch import Tensor

from ..lift import Lift
from ..neighborhood import Neighborhood, positions
from .explicit import explicit_attention, weights
from .first import first_of, is_first, seen


def materialized_attention(
    lift: Lift,
    neighborhood: Neighborhood,
    mask: Tensor | None = None,
    *,
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attention with the (query, key) weights in memory."""
    allowed = _allowed(lift, neighborhood)
    return explicit_attention(lift, allowed, mask, top_k=top_k, dropout_p=dropout_p)


def materialized_weights(
    lift: Lift, neighborhood: Neighborhood, mask: Tensor | None, top_k: int | None
) -> Tensor:
    """The weights themselves, (batch, head, query, key)."""
    return weights(lift, _allowed(lift, neighborhood), mask, top_k)


def _allowed(lift: Lift, neighborhood: Neighborhood) -> Tensor | None:
    sizes = positions(lift.query.shape[2], lift.key.shape[2], lift.query.device)
    count = first_of(neighborhood)
    return seen(neighborhood, *sizes, is_first(lift, count) if count else None)
