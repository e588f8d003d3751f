"""The language models of transformers that a branch knows how to join."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import nearest
from .decoder import DECODERS, HostedDecoderAttention, is_decoder


def decoder_attentions(model: nn.Module) -> dict[str, Any]:
    """The attention of every layer of a Llama, Qwen2 or Qwen3, by name.

    Raises ``ValueError`` for any other model, and for one made bidirectional.
    """
    found = {n: m for n, m in model.named_modules() if is_decoder(m)}
    if not found and any(isinstance(m, HostedDecoderAttention) for m in model.modules()):
        raise ValueError("the attention of this model was swapped; resonant.unswap first")
    if not found:
        kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
        known = [name.lower() for name in DECODERS.values()]
        families = ", ".join(DECODERS.values())
        raise ValueError(
            f"branches and adapters are for {families} of transformers, not {kind!r} "
            f"({nearest(str(kind), known)}); resonant.swap changes the attention of other models"
        )
    for name, module in found.items():
        if not getattr(module.config, "is_causal", True):
            raise ValueError(
                f"{name} is not causal (config.is_causal is False), but a branch looks back only; "
                "load the model with is_causal=True"
            )
    return found
