"""The language model: a causal transformer whose attention is a choice."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..functional.documents import token_positions
from ..functional.mask import real_keys
from ..functional.neighborhood import Causal
from ..nn import (
    Block,
    EnergyGate,
    HeadPosition,
    LearnedPosition,
    ModelCache,
    MorletPosition,
    RasterPosition,
    SinusoidalPosition,
    attention,
    build_gate,
)
from ..nn.cache import refuse_training
from .base import CausalModel
from .fields import with_changes
from .language_configs import LanguageModelConfig, preset
from .positions import head_position


class LanguageModel(CausalModel):
    """Token embedding, pre-norm blocks of attention and SwiGLU, read-out tied to the embedding.

    Arguments of a call: see ``CausalModel``.
    """

    config_type = LanguageModelConfig
    further_tokens = 0  # ids beyond the vocabulary that are read and never predicted

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary + self.further_tokens, config.width)
        self.position = self._added_position()
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.reset_parameters()

    def _added_position(self) -> nn.Module | None:
        """What knows where a token stands and is added to its embedding."""
        position = self.config.position
        match position.kind:
            case "sinusoidal":
                return SinusoidalPosition(self.config.width, position.base)
            case "learned":
                return LearnedPosition(self.config.width, position.max_length)
            case "morlet":
                return MorletPosition(self.config.width)
        return None

    def reset_parameters(self) -> None:
        """A start near the uniform guess; residual branches shrunk by depth.

        Tied read-outs see the token's own embedding first: at unit length it would win by far.
        """
        nn.init.normal_(self.embedding.weight, std=0.25 * self.config.width**-0.5)
        if isinstance(self.position, LearnedPosition):
            nn.init.normal_(self.position.table.weight, std=0.25)  # the size of an embedding
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                parameter.data.mul_((2 * self.config.layers) ** -0.5)

    def forward(
        self,
        tokens: Int[Tensor, "batch sequence"],
        *,
        key_padding_mask: Tensor | None = None,
        documents: Int[Tensor, "#batch sequence"] | None = None,
        cache: ModelCache | None = None,
    ) -> Float[Tensor, "batch sequence vocabulary"]:
        if cache is not None:
            refuse_training(self)
        x = self.embedding(tokens) * math.sqrt(self.config.width)
        count = None
        if self.position is not None:
            encoding, count = self._encoding(tokens, key_padding_mask, documents, cache=cache)
            x = x + encoding.to(x.dtype)
        masks = {"key_padding_mask": key_padding_mask, "documents": documents}
        x = self._through_blocks(x, cache, **masks)
        if cache is not None and count is not None:
            cache.advance(count, documents)
        return F.linear(self.norm(x), self.embedding.weight[: self.config.vocabulary])

    def _encoding(
        self,
        tokens: Tensor,
        padding: Tensor | None,
        documents: Tensor | None,
        *,
        cache: ModelCache | None,
    ) -> tuple[Tensor, Tensor]:
        """What positions add to embeddings, and how many tokens the last document has.

        Padding is not counted, documents start anew.
        """
        assert self.position is not None
        real = real_keys(padding)
        if real is None:
            real = tokens.new_ones(tokens.shape, dtype=torch.bool)
        if cache is not None:
            position, count = cache.positions(real, documents)
        else:
            position, count = token_positions(real, documents=documents)
        length = tokens.shape[1] + (0 if cache is None else cache.length)
        place = self.position
        if isinstance(place, (LearnedPosition, RasterPosition)) and length > place.max_length:
            # Padding and other documents are not counted: only now look at the numbers.
            longest = int(position.max()) + 1
            if longest > place.max_length:
                raise ValueError(self._too_long(longest))
        return self.position(position), count

    def _too_long(self, longest: int) -> str:
        return (
            f"learned positions end at model.position.max_length = "
            f"{self.config.position.max_length}, but the sequence has {longest} tokens; shorten it "
            "or train with a larger one"
        )


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
    return LanguageModel(with_changes(config, mechanism, changes))


def _gate(config: LanguageModelConfig) -> EnergyGate | None:
    chosen = config.attention
    if chosen.gate is None:
        return None
    key_heads = config.key_value_heads or config.heads
    return build_gate(chosen.gate, config.width, key_heads, standardize=chosen.standardize)


def _head_position(config: LanguageModelConfig) -> HeadPosition | None:
    head_dim = config.width // config.heads
    return head_position(config.position, head_dim, config.heads, config.key_value_heads)


def _block(config: LanguageModelConfig) -> Block:
    chosen = config.attention
    layer = attention(
        chosen.mechanism,
        config.width,
        config.heads,
        bias=False,
        dropout=chosen.dropout,
        num_key_value_heads=config.key_value_heads,
        neighborhood=Causal(**chosen.past),
        top_k=chosen.top_k,
        position=_head_position(config),
        gate=_gate(config),
        **chosen.scalars,
    )
    return Block(layer, config.hidden)
