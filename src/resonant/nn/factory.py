"""Attention modules by the name of their mechanism."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from .attention import Attention
from .krause import KrauseAttention
from .kuramoto import PhaseAdapter
from .linear import LinearAttention
from .softmax import SoftmaxAttention

AnyAttention: TypeAlias = Attention | PhaseAdapter | LinearAttention
_OWN_MODULE: dict[str, Callable[..., AnyAttention]] = {
    "softmax": SoftmaxAttention,
    "krause": KrauseAttention,
    "kuramoto": PhaseAdapter,
    "linear": LinearAttention,
}


def attention(mechanism_name: str, embed_dim: int, num_heads: int, **options: Any) -> AnyAttention:
    """The attention module of a registered mechanism, a user's own included: features in and out.

    Options are those of ``Attention`` (for "kuramoto" of ``PhaseAdapter``, for "linear" of
    ``LinearAttention``). Raises ``ValueError``
    for an unknown name, naming the nearest.
    """
    own = _OWN_MODULE.get(mechanism_name)
    if own is not None:
        return own(embed_dim, num_heads, **options)
    return Attention(mechanism_name, embed_dim, num_heads, **options)
