"""Position modules from their configuration."""

from __future__ import annotations

from typing import Any

from ..nn import (
    BiasedRotaryPosition,
    HeadPosition,
    OscillatorPosition,
    RelativeMorletPosition,
    RotaryPosition,
)
from .language_configs import PositionConfig


def head_position(
    config: PositionConfig, head_dim: int, heads: int, key_heads: int | None = None
) -> HeadPosition | None:
    """What acts inside attention, for heads of ``head_dim`` features; None if nothing does."""
    within = _within(config, head_dim, heads, key_heads)
    if config.oscillators == 0:
        return within
    return OscillatorPosition(heads, config.oscillators, within=within)


def _within(
    config: PositionConfig, head_dim: int, heads: int, key_heads: int | None
) -> HeadPosition | None:
    turning: dict[str, Any] = {"base": config.base, "convention": config.convention}
    match config.kind:
        case "rotary":
            return RotaryPosition(head_dim, **turning)
        case "rotary-biased":
            turning["num_key_value_heads"] = key_heads
            return BiasedRotaryPosition(head_dim, heads, **turning)
        case "morlet-relative":
            return RelativeMorletPosition(head_dim, heads, ell=config.locality, **turning)
    return None
