"""Other libraries' models: attention and branches in transformers, adapters of PEFT.

Names load on first use; transformers and PEFT when something needs them (extra ``llm``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters import (
        describe_trainable,
        lora_config,
        save_branch,
        trainable_parameters,
    )
    from .attention_interface import drop_attention, register_attention, use_attention
    from .branch import add_krause_branch, branches, remove_krause_branch
    from .restore import restore_attention
    from .sinks import attention_sinks, measure_sinks, record_transformer
    from .streaming import windowed_cache

_HOME = {
    "add_krause_branch": "branch",
    "attention_sinks": "sinks",
    "branches": "branch",
    "describe_trainable": "adapters",
    "drop_attention": "attention_interface",
    "lora_config": "adapters",
    "measure_sinks": "sinks",
    "record_transformer": "sinks",
    "register_attention": "attention_interface",
    "remove_krause_branch": "branch",
    "restore_attention": "restore",
    "save_branch": "adapters",
    "trainable_parameters": "adapters",
    "use_attention": "attention_interface",
    "windowed_cache": "streaming",
}

__all__ = [
    "add_krause_branch",
    "attention_sinks",
    "branches",
    "describe_trainable",
    "drop_attention",
    "lora_config",
    "measure_sinks",
    "record_transformer",
    "register_attention",
    "remove_krause_branch",
    "restore_attention",
    "save_branch",
    "trainable_parameters",
    "use_attention",
    "windowed_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'resonant.integrations' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
