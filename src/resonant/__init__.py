"""Attention that synchronises, at the speed of fused SDPA: Krause, Kuramoto, clocks, gates.

The names below are the public surface; they load on first use, so that the command line answers
without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import hints
from .version import VERSION

if TYPE_CHECKING:
    from . import diagnostics, functional, integrations, nn, testing
    from .functional import (
        Band,
        Causal,
        Full,
        Grid,
        Lift,
        Scalar,
        attend,
        attention_weights,
        clock,
        clock_attention,
        energy_gate,
        energy_log_gate,
        gaussian_locality,
        krause_attention,
        kuramoto_coupling,
        morlet_encoding,
        register,
        rotate,
        sinusoidal_encoding,
        softmax_attention,
    )
    from .integrations.swap import swap, unswap
    from .lab.own.compare import compare
    from .models.architectures import load_model
    from .models.generation import generate
    from .models.language import LanguageModel, language_model
    from .models.phase import PhaseLanguageModel, phase_language_model
    from .models.pixels import PixelModel, pixel_model
    from .models.speech import SpeechTransformer, speech_transformer
    from .models.swin import SwinTransformer, swin_transformer
    from .models.vision import VisionTransformer, vision_transformer

__version__ = VERSION

_HOME = {
    "Band": "functional",
    "Causal": "functional",
    "Full": "functional",
    "Grid": "functional",
    "LanguageModel": "models.language",
    "Lift": "functional",
    "PhaseLanguageModel": "models.phase",
    "PixelModel": "models.pixels",
    "Scalar": "functional",
    "SpeechTransformer": "models.speech",
    "SwinTransformer": "models.swin",
    "VisionTransformer": "models.vision",
    "attend": "functional",
    "attention_weights": "functional",
    "clock": "functional",
    "clock_attention": "functional",
    "compare": "lab.own.compare",
    "diagnostics": "",
    "energy_gate": "functional",
    "energy_log_gate": "functional",
    "functional": "",
    "gaussian_locality": "functional",
    "generate": "models.generation",
    "integrations": "",
    "krause_attention": "functional",
    "kuramoto_coupling": "functional",
    "language_model": "models.language",
    "load_model": "models.architectures",
    "morlet_encoding": "functional",
    "nn": "",
    "phase_language_model": "models.phase",
    "pixel_model": "models.pixels",
    "register": "functional",
    "rotate": "functional",
    "sinusoidal_encoding": "functional",
    "softmax_attention": "functional",
    "speech_transformer": "models.speech",
    "swap": "integrations.swap",
    "swin_transformer": "models.swin",
    "testing": "",
    "unswap": "integrations.swap",
    "vision_transformer": "models.vision",
}

__all__ = [
    "Band",
    "Causal",
    "Full",
    "Grid",
    "LanguageModel",
    "Lift",
    "PhaseLanguageModel",
    "PixelModel",
    "Scalar",
    "SpeechTransformer",
    "SwinTransformer",
    "VisionTransformer",
    "attend",
    "attention_weights",
    "clock",
    "clock_attention",
    "compare",
    "diagnostics",
    "energy_gate",
    "energy_log_gate",
    "functional",
    "gaussian_locality",
    "generate",
    "integrations",
    "krause_attention",
    "kuramoto_coupling",
    "language_model",
    "load_model",
    "morlet_encoding",
    "nn",
    "phase_language_model",
    "pixel_model",
    "register",
    "rotate",
    "sinusoidal_encoding",
    "softmax_attention",
    "speech_transformer",
    "swap",
    "swin_transformer",
    "testing",
    "unswap",
    "vision_transformer",
]


hints.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'resonant' has no attribute {name!r}")
    if not _HOME[name]:
        return importlib.import_module(f"resonant.{name}")
    return getattr(importlib.import_module(f"resonant.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
