"""Attention in the place of that of transformers' vision models, with its call."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..nn.adapter import PhaseAdapter
from ..nn.attention import Attention
from ..nn.linear import LinearAttention

# Classes of the library transformers that are made and called alike.
HOSTS = (
    "ViTAttention",
    "DeiTAttention",
    "Dinov2Attention",
    "Dinov2WithRegistersAttention",
    "IJepaAttention",
    "ViTMSNAttention",
)


def is_host(module: nn.Module) -> bool:
    """Whether ``module`` is the attention of one of transformers' vision models."""
    kind = type(module)
    return kind.__name__ in HOSTS and kind.__module__.startswith("transformers.")


class HostedAttention(nn.Module):
    """``attention`` with the call of transformers: (hidden_states, attention_mask) -> (x, None).

    The mask has SDPA's polarity (boolean True = takes part), as there. Weights are not returned,
    and ``output_attentions`` of transformers finds none: see ``diagnostics.record_attention``. Made
    by ``resonant.swap``.
    """

    def __init__(self, attention: Attention | PhaseAdapter | LinearAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self,
        hidden_states: Float[Tensor, "batch token embed"],
        attention_mask: Tensor | None = None,
        **ignored: Any,
    ) -> tuple[Float[Tensor, "batch token embed"], None]:
        """``ignored`` is what transformers passes on to kernels of its own."""
        if attention_mask is not None and attention_mask.dtype == torch.bool:
            attention_mask = ~attention_mask
        output, _ = self.attention(hidden_states, attn_mask=attention_mask)
        return output, None
