"""Modules: parameters and projections around `resonant.functional`.

Masks have MultiheadAttention's polarity: boolean True = blocked.
"""

from collections.abc import Callable
from typing import Any

from .attention import Attention
from .block import Block, SwiGLU
from .cache import AttentionCache, ModelCache
from .energy import EnergyGate
from .krause import KrauseAttention
from .parameter import HeadScalar
from .position import (
    HeadPosition,
    LearnedPosition,
    MorletPosition,
    RelativeMorletPosition,
    RotaryPosition,
    SinusoidalPosition,
)
from .softmax import SoftmaxAttention

_OWN_MODULE: dict[str, Callable[..., Attention]] = {
    "softmax": SoftmaxAttention,
    "krause": KrauseAttention,
}


def attention(mechanism_name: str, embed_dim: int, num_heads: int, **options: Any) -> Attention:
    """The attention module of a registered mechanism, a user's own included.

    Options are those of ``Attention``. Raises ``ValueError`` for an unknown name, naming the
    nearest.
    """
    own = _OWN_MODULE.get(mechanism_name)
    if own is not None:
        return own(embed_dim, num_heads, **options)
    return Attention(mechanism_name, embed_dim, num_heads, **options)


__all__ = [
    "Attention",
    "AttentionCache",
    "Block",
    "EnergyGate",
    "HeadPosition",
    "HeadScalar",
    "KrauseAttention",
    "LearnedPosition",
    "ModelCache",
    "MorletPosition",
    "RelativeMorletPosition",
    "RotaryPosition",
    "SinusoidalPosition",
    "SoftmaxAttention",
    "SwiGLU",
    "attention",
]
