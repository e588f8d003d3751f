"""Position modules: what acts inside attention, and what is added to embeddings."""

from .added import LearnedPosition, MorletPosition, RasterPosition, SinusoidalPosition
from .delayed import BiasedRotaryPosition, OscillatorPosition
from .turned import HeadPosition, RelativeMorletPosition, RotaryPosition

__all__ = [
    "BiasedRotaryPosition",
    "HeadPosition",
    "LearnedPosition",
    "MorletPosition",
    "OscillatorPosition",
    "RasterPosition",
    "RelativeMorletPosition",
    "RotaryPosition",
    "SinusoidalPosition",
]
