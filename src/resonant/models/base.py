"""What language models share: caches, and being saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..functional.position import morlet_constraints
from ..nn import (
    Attention,
    EnergyGate,
    HeadScalar,
    KuramotoAttention,
    LinearAttention,
    ModelCache,
    MorletPosition,
    PhaseAdapter,
)
from .pretrained import load_pretrained, save_pretrained

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def learned_numbers(model: nn.Module) -> dict[str, list[float]]:
    """Learned scalars by module (one number a head), and omega and sigma of Morlet positions.

    Morlet positions as they act, that is under ``functional.morlet_constraints``.
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, HeadScalar):
            found[name] = module().tolist()
        elif isinstance(module, MorletPosition):
            omega, sigma = morlet_constraints(module.omega(), module.sigma())
            found |= {f"{name}.omega": omega.tolist(), f"{name}.sigma": sigma.tolist()}
    return found


class CausalModel(nn.Module):
    """A causal language model: ``blocks`` of layers with an ``attention`` each, and its ``config``.

    ``tokens`` (batch, sequence) of ids -> logits (batch, sequence, vocabulary); position t sees
    tokens 0..t only. ``key_padding_mask`` (batch, sequence), True = padding, on either side;
    ``documents`` (batch or 1, sequence), labels of documents packed in one row: none sees another.
    ``cache`` (from ``new_cache``) remembers earlier calls: these tokens follow those; evaluation
    only.
    """

    config_type: ClassVar[type]
    config: Any
    blocks: nn.ModuleList

    def attentions(
        self,
    ) -> list[Attention | KuramotoAttention | PhaseAdapter | LinearAttention]:
        """The attention module of each layer."""
        return [block.attention for block in self.blocks]  # type: ignore[misc]

    def new_cache(self) -> ModelCache:
        """An empty cache for decoding with this model."""
        return ModelCache([layer.new_cache() for layer in self.attentions()])

    def _through_blocks(self, x: Tensor, cache: ModelCache | None, **masks: Any) -> Tensor:
        """What leaves the last block, each block with its own layer of the cache."""
        for i, block in enumerate(self.blocks):
            x = block(x, cache=None if cache is None else cache.layers[i], **masks)
        return x

    @property
    def sees_future(self) -> bool:
        """Whether a gate standardizes over the whole sequence (a module of experiments alone)."""
        gates = (module for module in self.modules() if isinstance(module, EnergyGate))
        return any(gate.standardize == "sequence" for gate in gates)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``directory``."""
        save_pretrained(self, self.config, directory)

    @classmethod
    def from_pretrained(cls: type[M], directory: str | Path) -> M:
        """The model that ``save_pretrained`` wrote.

        Raises ``FileNotFoundError`` or ``ValueError`` when a file is missing or does not fit.
        """
        return load_pretrained(cls, cls.config_type, directory)  # type: ignore[attr-defined]
