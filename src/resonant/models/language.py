"""The language model: a causal transformer whose attention is a choice."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..functional.neighborhood import Causal
from ..nn import Block, RotaryPosition, attention
from .configs import LanguageModelConfig, preset
from .pretrained import load_pretrained, save_pretrained


class LanguageModel(nn.Module):
    """Token embedding, pre-norm blocks of attention and SwiGLU, read-out tied to the embedding.

    ``tokens`` (batch, sequence) of ids -> logits (batch, sequence, vocabulary); position t sees
    tokens 0..t only. ``key_padding_mask`` (batch, sequence), True = padding.
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A start near the uniform guess; residual branches shrunk by depth.

        Tied read-outs see the token's own embedding first: at unit length it would win by far.
        """
        nn.init.normal_(self.embedding.weight, std=0.25 * self.config.width**-0.5)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                parameter.data.mul_((2 * self.config.layers) ** -0.5)

    def forward(
        self,
        tokens: Int[Tensor, "batch sequence"],
        *,
        key_padding_mask: Tensor | None = None,
    ) -> Float[Tensor, "batch sequence vocabulary"]:
        x = self.embedding(tokens) * math.sqrt(self.config.width)
        for block in self.blocks:
            x = block(x, key_padding_mask=key_padding_mask)
        return F.linear(self.norm(x), self.embedding.weight)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``directory``."""
        save_pretrained(self, self.config, directory)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> LanguageModel:
        """The model that ``save_pretrained`` wrote.

        Raises ``FileNotFoundError`` or ``ValueError`` when a file is missing or does not fit.
        """
        return load_pretrained(cls, LanguageModelConfig, directory)


def language_model(
    config: LanguageModelConfig | str = "0.11M", *, mechanism: str | None = None, **changes: Any
) -> LanguageModel:
    """A causal language model from a configuration or the name of a preset.

    ``mechanism`` replaces the attention ("softmax", "krause", or a name of your own); further
    keywords replace fields of the configuration.

    Raises ``ValueError`` for an unknown preset or mechanism, ``TypeError`` for an unknown field.
    """
    if isinstance(config, str):
        config = preset(config)
    if mechanism is not None:
        chosen = dataclasses.replace(
            changes.get("attention", config.attention), mechanism=mechanism
        )
        changes["attention"] = chosen
    return LanguageModel(dataclasses.replace(config, **changes))


def _block(config: LanguageModelConfig) -> Block:
    chosen = config.attention
    layer = attention(
        chosen.mechanism,
        config.width,
        config.heads,
        bias=False,
        dropout=chosen.dropout,
        num_key_value_heads=config.key_value_heads,
        neighborhood=Causal(window=chosen.window),
        top_k=chosen.top_k,
        position=RotaryPosition(config.width // config.heads, config.rotary_base),
        **chosen.scalars,
    )
    return Block(layer, config.hidden)
