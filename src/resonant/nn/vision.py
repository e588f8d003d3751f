"""The parts of a vision transformer around attention."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Norm = Literal["pre", "post"]


class DropPath(nn.Module):
    """In training, leaves a branch out for a share ``p`` of rows, and scales the others up.

    ``x / (1 - p)`` with probability 1 - p, else 0, so that the mean stays. Raises ``ValueError``
    for ``p`` outside [0, 1). Source: Huang et al., stochastic depth (arXiv 1603.09382), section 3.
    """

    OFF: ClassVar[dict[str, float]] = {"p": 0.0}

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"p is a probability in [0, 1); it is {p}")
        self.p = p

    def forward(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        if self.p == 0.0 or not self.training:
            return x
        kept = torch.rand(x.shape[0], *(1,) * (x.dim() - 1), device=x.device) >= self.p
        return x * kept.to(x.dtype) / (1.0 - self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class VisionBlock(nn.Module):
    """Attention and a GELU layer, each on a residual branch, for tokens that see both ways.

    ``norm="pre"``: ``x + branch(norm(x))``; "post": ``norm(x + branch(x))``. ``attention`` is
    called as ``attention(x) -> (output, weights)``.
    """

    OFF: ClassVar[dict[str, float]] = {"drop_path": 0.0, "dropout": 0.0}

    def __init__(
        self,
        attention: nn.Module,
        embed_dim: int,
        hidden_dim: int,
        *,
        norm: Norm = "pre",
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"norm is pre or post; it is {norm!r}")
        self.norm: Norm = norm
        self.attention = attention
        self.attention_norm = nn.LayerNorm(embed_dim)
        self.feedforward_norm = nn.LayerNorm(embed_dim)
        self.up_proj = nn.Linear(embed_dim, hidden_dim)
        self.down_proj = nn.Linear(hidden_dim, embed_dim)
        self.dropout, self.drop_path = nn.Dropout(dropout), DropPath(drop_path)

    def forward(self, x: Float[Tensor, "batch *token embed"], **options: Any) -> Tensor:
        """Options go to the attention."""
        if self.norm == "pre":
            x = x + self._attended(self.attention_norm(x), options)
            return x + self._fed(self.feedforward_norm(x))
        x = self.attention_norm(x + self._attended(x, options))
        return self.feedforward_norm(x + self._fed(x))

    def _attended(self, x: Tensor, options: dict[str, Any]) -> Tensor:
        output, _ = self.attention(x, **options)
        return self.drop_path(self.dropout(output))

    def _fed(self, x: Tensor) -> Tensor:
        return self.drop_path(self.dropout(self.down_proj(F.gelu(self.up_proj(x)))))
