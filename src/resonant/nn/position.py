"""Position modules: what turns queries and keys before a mechanism sees them."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..functional.position import rotary_frequencies, rotate


class RotaryPosition(nn.Module):
    """Rotary positions: turns query and key so that scores see only relative positions.

    ``angle[t, c] = t omega_c`` with ``omega_c = base ** (-2 c / head_dim)``; pairs are the two
    halves of a head (see ``functional.rotate``). The last query stands at the last key.
    ``base`` is a number above 1; infinity turns rotation off.

    Source: Su et al., RoFormer (arXiv 2104.09864), section 3.2.2.
    """

    OFF: ClassVar[dict[str, float]] = {"base": float("inf")}

    def __init__(self, head_dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base
        rotary_frequencies(head_dim, base)  # refuses what has no frequencies

    def forward(
        self,
        query: Float[Tensor, "batch head query dim"],
        key: Float[Tensor, "batch key_head key dim"],
    ) -> tuple[Tensor, Tensor]:
        """Query and key turned by their positions."""
        queries, keys = query.shape[2], key.shape[2]
        # Computed anew, in float32: no buffer that model.to(bfloat16) would round.
        frequencies = rotary_frequencies(self.head_dim, self.base).to(key.device)
        first = min(0, keys - queries)
        position = torch.arange(first, keys, device=key.device, dtype=torch.float32)
        angle = position.unsqueeze(-1) * frequencies
        return rotate(query, angle[keys - queries - first :]), rotate(key, angle[-first:])

    def extra_repr(self) -> str:
        return f"base={self.base}"
