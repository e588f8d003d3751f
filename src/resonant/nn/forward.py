"""Forward attention: the discrete cousin of clocks that listen."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..functional.alignment import forward_posterior
from .cache import CrossCache
from .core import AttentionCore
from .timed import TimedAttention, wide_linear


class ForwardAttention(TimedAttention):
    """Cross-attention that follows the source token by token, by content and a chance to move on.

    The weights are the posterior of a monotone hidden Markov model (``forward_posterior``): a
    frame's emission of a token is ``exp(q . k / sqrt(d))``, its chance to move on ``sigmoid(w .
    frame + b)``, which starts at ``query_rate`` tokens a frame. A baseline for ``ClockAttention``,
    called as it is; it has no end beyond its last token.

    Raises ``ValueError`` for a ``query_rate`` outside (0, 1), and for ``attn_mask`` and
    ``is_causal``.

    Source: forward attention with transition agent (arXiv 1807.06736). Differs: see
    ``functional.forward_posterior``; every head follows by itself.
    """

    OFF: ClassVar[dict[str, float]] = {**AttentionCore.OFF}

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        query_rate: float = 0.5,
        bias: bool = True,
        dropout: float = 0.0,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
    ) -> None:
        options = {"vdim": vdim, "dropout": dropout, "batch_first": batch_first}
        super().__init__(embed_dim, num_heads, bias=bias, **options)
        if not 0.0 < query_rate < 1.0:
            raise ValueError(f"query_rate is a chance to move on, in (0, 1); it is {query_rate}")
        self.kdim = embed_dim if kdim is None else kdim
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.k_proj = nn.Linear(self.kdim, embed_dim, bias=bias)
        self.move = nn.Linear(embed_dim, num_heads)
        nn.init.zeros_(self.move.weight)
        nn.init.constant_(self.move.bias, math.log(query_rate / (1.0 - query_rate)))

    def forward(
        self,
        query: Float[Tensor, "batch query embed"],
        key: Float[Tensor, "batch key kdim"] | None = None,
        value: Float[Tensor, "batch key vdim"] | None = None,
        *,
        key_padding_mask: Bool[Tensor, "batch key"] | None = None,
        query_padding_mask: Bool[Tensor, "batch query"] | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: CrossCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; returns the output (batch, query, embed) and the weights or None.

        Cache and padding: as in ``ClockAttention``.
        """
        key = query if key is None else key
        value = key if value is None else value
        if is_causal or attn_mask is not None:
            raise ValueError(
                "forward attention follows the source by itself; leave out attn_mask and is_causal"
            )
        self._check(query, key, value, cache, positional=False)
        real = self._real_queries(query_padding_mask, query)
        if cache is None:
            side = self._source(key, value, key_padding_mask)
        else:
            cache.source = cache.source or self._source(key, value, key_padding_mask)
            cache.check(key)
            side = cache.source
        shape = (-1, self.head_dim)
        frames = wide_linear(self.q_proj, query).unflatten(-1, shape).transpose(1, 2)
        with torch.autocast(query.device.type, enabled=False):
            logits = frames @ side["key"].mT / self.head_dim**0.5
        move = wide_linear(self.move, query).sigmoid().transpose(1, 2)
        move = (self.pace * move).clamp(max=1.0)
        state = None if cache is None else cache.running
        options = {"mask": side.get("mask"), "frames": real, "state": state}
        weights, last = forward_posterior(logits, move, **options)
        if cache is not None:
            cache.running = last
            cache.count(query.shape[1])
        weights = weights.to(side["value"].dtype)
        output = F.dropout(weights, self.dropout, self.training) @ side["value"]
        output = self.out_proj(output.transpose(1, 2).flatten(2))
        return output, weights if need_weights else None

    def _source(self, key: Tensor, value: Tensor, padding: Tensor | None) -> dict[str, Tensor]:
        """Keys, values and what is real of the source."""
        content = wide_linear(self.k_proj, key).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        side = {"key": content, "value": self._values(value)}
        mask = self._real_source(padding, key)
        return side if mask is None else side | {"mask": mask}
