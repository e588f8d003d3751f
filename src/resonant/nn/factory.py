"""Attention modules by the name of their mechanism."""

from __future__ import annotations

from typing import Any, TypeAlias

from ..mechanism import mechanism
from .adapter import PhaseAdapter
from .attention import Attention
from .linear import LinearAttention

AnyAttention: TypeAlias = Attention | PhaseAdapter | LinearAttention


def attention(mechanism_name: str, embed_dim: int, num_heads: int, **options: Any) -> AnyAttention:
    """The attention module of a registered mechanism, a user's own included: features in and out.

    Options are those of ``Attention`` (for "kuramoto" of ``PhaseAdapter``, for "linear" of
    ``LinearAttention``). Raises ``ValueError`` for an unknown name, naming the nearest, and for
    mechanisms that attend from one sequence to another by time.
    """
    chosen = mechanism(mechanism_name)
    if chosen.timed:
        raise ValueError(
            f"{mechanism_name} attends from one sequence to another by time alone; use its module "
            "of resonant.nn, as cross-attention"
        )
    own = chosen.load_module()
    if own is not None:
        return own(embed_dim, num_heads, **options)
    return Attention(mechanism_name, embed_dim, num_heads, **options)
