"""Modules: parameters and projections around `resonant.functional`.

Masks have MultiheadAttention's polarity: boolean True = blocked.
"""

from collections.abc import Callable
from typing import Any

from .attention import Attention
from .block import Block, CrossBlock, PhaseBlock, SwiGLU
from .cache import AttentionCache, CouplingCache, CrossCache, ModelCache
from .clock import ClockAttention
from .energy import EnergyGate, build_gate, register_gate
from .krause import KrauseAttention
from .kuramoto import KuramotoAttention, PhaseAdapter
from .mixture import MixtureAttention
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
from .timed import padded_queries

_OWN_MODULE: dict[str, Callable[..., Attention | PhaseAdapter]] = {
    "softmax": SoftmaxAttention,
    "krause": KrauseAttention,
    "kuramoto": PhaseAdapter,
}


def attention(
    mechanism_name: str, embed_dim: int, num_heads: int, **options: Any
) -> Attention | PhaseAdapter:
    """The attention module of a registered mechanism, a user's own included: features in and out.

    Options are those of ``Attention`` (for "kuramoto" of ``PhaseAdapter``). Raises ``ValueError``
    for an unknown name, naming the nearest.
    """
    own = _OWN_MODULE.get(mechanism_name)
    if own is not None:
        return own(embed_dim, num_heads, **options)
    return Attention(mechanism_name, embed_dim, num_heads, **options)


__all__ = [
    "Attention",
    "AttentionCache",
    "Block",
    "ClockAttention",
    "CouplingCache",
    "CrossBlock",
    "CrossCache",
    "EnergyGate",
    "HeadPosition",
    "HeadScalar",
    "KrauseAttention",
    "KuramotoAttention",
    "LearnedPosition",
    "MixtureAttention",
    "ModelCache",
    "MorletPosition",
    "PhaseAdapter",
    "PhaseBlock",
    "RelativeMorletPosition",
    "RotaryPosition",
    "SinusoidalPosition",
    "SoftmaxAttention",
    "SwiGLU",
    "attention",
    "build_gate",
    "padded_queries",
    "register_gate",
]
