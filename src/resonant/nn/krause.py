"""Krause attention as a module."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..functional.krause import krause_lift
from ..functional.lift import Lift
from ..functional.mask import real_keys
from .attention import Attention

# How fast the running mean of keys follows training, as in batch normalization.
MOMENTUM = 0.1
FAR = 10.0  # a key further out than so many times the usual counts as one so far out


class KrauseAttention(Attention):
    """Multi-head Krause attention: ``softmax(-|q - k|^2 / (2 sigma^2)) v`` over near keys.

    ``sigma`` is the starting width, in units of projected features, learned per head; infinity
    attends to the whole neighbourhood alike. The buffer ``origin`` (key_head, head_dim), a running
    mean of keys taken in training as batch normalization does, is subtracted from queries and keys:
    it changes no score, only their rounding, and is constant in evaluation, so that no future
    reaches the past.

    Arguments, masks (boolean True = blocked) and errors: see ``Attention``.
    Source: arXiv 2602.11534, Krause attention. Differs: see ``functional.krause_lift``.
    """

    OFF: ClassVar[dict[str, float]] = {**Attention.OFF, "sigma": math.inf}
    origin: Tensor

    def __init__(
        self, embed_dim: int, num_heads: int, *, sigma: float = 2.5, **options: Any
    ) -> None:
        super().__init__("krause", embed_dim, num_heads, sigma=sigma, **options)
        origin = torch.zeros(self.num_key_value_heads, self.head_dim)
        self.register_buffer("origin", origin)

    def lift(self, query: Tensor, key: Tensor, value: Tensor) -> Lift:
        return krause_lift(query, key, value, **self.learned_scalars(), origin=self.origin)

    @torch.no_grad()
    def observe(self, key: Tensor, blocked: Tensor | None) -> None:
        """Move ``origin`` towards the mean of the keys that take part, where all are finite."""
        if key.numel() == 0:
            return
        origin = self.origin.to(torch.promote_types(self.origin.dtype, torch.float32))
        away = key.detach().to(origin.dtype) - origin[:, None]
        taken = real_keys(blocked)
        count = away.shape[0] * away.shape[2]
        if taken is not None:
            # Filled, not multiplied: padding may hold what is no number.
            away = away.masked_fill(~taken[:, None, :, None], 0.0)
            count = taken.sum().clamp(min=1)
        # A key far out, in a step that its user may skip, counts as one at the limit.
        length = away.norm(dim=-1, keepdim=True)
        share = self._limit() / length.clamp(min=torch.finfo(length.dtype).tiny)
        near = away * share.clamp(max=1)
        mean = near.sum(dim=(0, 2)) / count
        # A step with what is no number is skipped, and must leave nothing behind. A new tensor:
        # compiled backward passes may read the old one again.
        moved = (origin + MOMENTUM * mean).to(self.origin.dtype)
        self.origin = torch.where(length.isfinite().all(), moved, self.origin)

    def _limit(self) -> Tensor:
        """How far a key moves ``origin`` at most: ten times as far as a normalized input's lies."""
        sizes = [p.detach().float().norm() for p in self.k_proj.parameters()]
        return FAR * torch.stack(sizes).sum() if sizes else self.origin.new_tensor(math.inf)
