"""Architectures as data: dataclasses and presets, readable without torch."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AttentionConfig:
    """One attention layer: the mechanism and whom a token may listen to.

    Args:
        mechanism: softmax, krause, or a name given to resonant.register
        window: keys a token sees, itself included (none: the whole past)
        top_k: keys kept of those, the ones with the largest logits (none: all)
        sigma: Krause's starting width; only for mechanisms that have one (none: their default)
        dropout: share of attention weights dropped in training
    """

    mechanism: str = "softmax"
    window: int | None = None
    top_k: int | None = None
    sigma: float | None = None
    dropout: float = 0.0


@dataclass(frozen=True)
class LanguageModelConfig:
    """A causal transformer: pre-norm, rotary positions, SwiGLU, tied embeddings.

    Args:
        vocabulary: number of token ids (256 for bytes)
        layers: number of blocks
        width: features per token
        heads: query heads
        key_value_heads: key and value heads (none: as many as query heads)
        hidden: features inside the feed-forward layer
        rotary_base: base of the rotary frequencies
        attention: what every layer attends with
    """

    vocabulary: int = 256
    layers: int = 2
    width: int = 64
    heads: int = 4
    key_value_heads: int | None = None
    hidden: int = 160
    rotary_base: float = 10_000.0
    attention: AttentionConfig = field(default_factory=AttentionConfig)


def tiny() -> LanguageModelConfig:
    """0.11M parameters over bytes; a minute of one core for the demo's 1.9 nats per byte."""
    return LanguageModelConfig(layers=2, width=64, heads=4, hidden=160)


def small() -> LanguageModelConfig:
    """0.36M parameters over 66 characters; about ten minutes of one core at 2,500 steps."""
    return LanguageModelConfig(vocabulary=66, layers=4, width=80, heads=4, hidden=256)
