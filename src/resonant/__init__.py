"""Attention that synchronises: Krause attention and its baseline, at the speed of fused SDPA.

The names below are the public surface; they load on first use, so that the command line answers
without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import functional, nn, testing
    from .functional import (
        Band,
        Causal,
        Full,
        Lift,
        Scalar,
        attend,
        attention_weights,
        krause_attention,
        register,
        softmax_attention,
    )
    from .models.language import LanguageModel, language_model

_HOME = {
    "Band": "functional",
    "Causal": "functional",
    "Full": "functional",
    "LanguageModel": "models.language",
    "Lift": "functional",
    "Scalar": "functional",
    "attend": "functional",
    "attention_weights": "functional",
    "functional": "",
    "krause_attention": "functional",
    "language_model": "models.language",
    "nn": "",
    "register": "functional",
    "softmax_attention": "functional",
    "testing": "",
}

__all__ = [
    "Band",
    "Causal",
    "Full",
    "LanguageModel",
    "Lift",
    "Scalar",
    "attend",
    "attention_weights",
    "functional",
    "krause_attention",
    "language_model",
    "nn",
    "register",
    "softmax_attention",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'resonant' has no attribute {name!r}")
    if not _HOME[name]:
        return importlib.import_module(f"resonant.{name}")
    return getattr(importlib.import_module(f"resonant.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
