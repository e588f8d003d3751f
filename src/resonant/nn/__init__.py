"""Modules: parameters and projections around `resonant.functional`.

Masks have MultiheadAttention's polarity: boolean True = blocked.
"""

from .adapter import PhaseAdapter
from .attention import Attention
from .block import Block, CrossBlock, PhaseBlock, SwiGLU
from .cache import AttentionCache, CouplingCache, CrossCache, LinearCache, ModelCache
from .clock import ClockAttention
from .energy import EnergyGate, build_gate, register_gate
from .factory import attention
from .heads import HeadAttention
from .krause import KrauseAttention
from .kuramoto import KuramotoAttention
from .linear import LinearAttention
from .mixture import ForwardAttention, MixtureAttention
from .parameter import HeadScalar
from .position import (
    BiasedRotaryPosition,
    HeadPosition,
    LearnedPosition,
    MorletPosition,
    OscillatorPosition,
    RasterPosition,
    RelativeMorletPosition,
    RotaryPosition,
    SinusoidalPosition,
)
from .softmax import SoftmaxAttention
from .timed import paced, padded_queries, trusted
from .vision import DropPath, VisionBlock
from .window import PatchMerging, WindowAttention

__all__ = [
    "Attention",
    "AttentionCache",
    "BiasedRotaryPosition",
    "Block",
    "ClockAttention",
    "CouplingCache",
    "CrossBlock",
    "CrossCache",
    "DropPath",
    "EnergyGate",
    "ForwardAttention",
    "HeadAttention",
    "HeadPosition",
    "HeadScalar",
    "KrauseAttention",
    "KuramotoAttention",
    "LearnedPosition",
    "LinearAttention",
    "LinearCache",
    "MixtureAttention",
    "ModelCache",
    "MorletPosition",
    "OscillatorPosition",
    "PatchMerging",
    "PhaseAdapter",
    "PhaseBlock",
    "RasterPosition",
    "RelativeMorletPosition",
    "RotaryPosition",
    "SinusoidalPosition",
    "SoftmaxAttention",
    "SwiGLU",
    "VisionBlock",
    "WindowAttention",
    "attention",
    "build_gate",
    "paced",
    "padded_queries",
    "register_gate",
    "trusted",
]
