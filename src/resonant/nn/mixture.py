"""Baselines of clocks: Gaussian mixtures that move along, and forward attention."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..functional.alignment import forward_posterior, mixture_lift
from .cache import CrossCache
from .core import AttentionCore
from .parameter import wide_linear
from .timed import TimedAttention, inverse_softplus

SMALLEST_WIDTH = 0.1  # source tokens; a narrower component sees one token and has no gradient


class MixtureAttention(TimedAttention):
    """Cross-attention by Gaussians that move along the source: location-relative, no content keys.

    Each head has ``components`` Gaussians over source positions, whose means only ever grow:
    ``mean[t] = sum_{u <= t} softplus(delta[u])``, with widths ``softplus`` and weights ``softmax``
    of features of the frame. A baseline for ``ClockAttention``, called as it is; a frame moves
    by ``query_rate`` tokens at the start.

    Raises ``ValueError`` for fewer than one component.

    Source: Graves (arXiv 1308.0850), equations 46 to 51; as "GMM attention" with softplus,
    Battenberg et al. (arXiv 1910.10288), section 2.3. Differs: components are normalized over the
    source (see ``functional.mixture_lift``), a frame stands at the middle of its step, widths are
    at least 0.1 tokens, and all heads of a layer have mixtures of their own.
    """

    OFF: ClassVar[dict[str, float]] = {**AttentionCore.OFF, "query_rate": 0.0}
    keyed = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        components: int = 3,
        query_rate: float = 1.0,
        bias: bool = True,
        dropout: float = 0.0,
        vdim: int | None = None,
        batch_first: bool = True,
    ) -> None:
        options = {"vdim": vdim, "dropout": dropout, "batch_first": batch_first}
        super().__init__(embed_dim, num_heads, bias=bias, **options)
        if components < 1:
            raise ValueError(
                f"components counts Gaussians, so it is at least 1; it is {components}"
            )
        self.components = components
        self.mixture = nn.Linear(embed_dim, 3 * num_heads * components)
        nn.init.normal_(self.mixture.weight, std=0.02)
        with torch.no_grad():
            weight, step, width = self.mixture.bias.unflatten(0, (3, num_heads, components))
            weight.zero_()
            step.fill_(inverse_softplus(query_rate))
            # Widths of 1, 2, 3 ... tokens: alike they would learn alike.
            for index in range(components):
                width[:, index] = inverse_softplus(1.0 + index)

    def forward(
        self,
        query: Float[Tensor, "batch query embed"],
        key: Float[Tensor, "batch key kdim"] | None = None,
        value: Float[Tensor, "batch key vdim"] | None = None,
        *,
        key_padding_mask: Bool[Tensor, "batch key"] | Float[Tensor, "batch key"] | None = None,
        query_padding_mask: Bool[Tensor, "batch query"] | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: CrossCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; returns the output (batch, query, embed) and the weights or None.

        ``key`` gives nothing but its length. Cache and masks: as in ``ClockAttention``.
        """
        key = query if key is None else key
        value = key if value is None else value
        self._check(query, key, value, cache, positional=is_causal or attn_mask is not None)
        real = self._real_queries(query_padding_mask, query)
        if cache is not None:
            if not cache.source:
                cache.source = {"value": self._values(value)}
                if key_padding_mask is not None:
                    cache.source["padding"] = key_padding_mask
            cache.check(key)
            key_padding_mask = cache.source.get("padding")
        heads = self._values(value) if cache is None else cache.source["value"]
        mask = self._real_source(key_padding_mask, key)
        mean, width, share = self._mixture(query, real, mask, cache)
        lift = mixture_lift(mean, width, heads, mask, direct=True)
        neighborhood = self.neighborhood_of(query, key, is_causal=is_causal)
        options: dict[str, Any] = {"neighborhood": neighborhood, "need_weights": need_weights}
        options |= {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask}
        outputs, weights = self._attend(lift, key, **options)
        output = self._mixed(outputs, share)
        weights = None if weights is None else self._mixed(weights, share)
        return self.out_proj(output.transpose(1, 2).flatten(2)), weights

    def _mixture(
        self, query: Tensor, real: Tensor | None, mask: Tensor | None, cache: CrossCache | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means, widths and weights, (batch, head, query, component)."""
        shape = (3, self.num_heads, self.components)
        numbers = wide_linear(self.mixture, query).unflatten(-1, shape).permute(2, 0, 3, 1, 4)
        share, step = numbers[0].softmax(-1), self.pace * F.softplus(numbers[1]).double()
        if real is not None:
            step = step.masked_fill(~real[:, None, :, None], 0.0)
        end = step.cumsum(2)
        if cache is not None and cache.running is not None:
            end = end + cache.running
        if cache is not None and query.shape[1]:
            count = cache.source["value"].shape[2]
            length = count if mask is None else mask.sum(-1)[:, None, None]
            place = (end * share).sum(-1)
            if real is not None:
                place = place.masked_fill(~real.unsqueeze(1), -math.inf)
            farthest = place.amax(-1, keepdim=True)
            cache.advance(end[:, :, -1:], length, query.shape[1], position=farthest)
        # A token's middle is its position, its ends half a token away.
        mean = end - 0.5 * step - 0.5
        return mean, F.softplus(numbers[2]) + SMALLEST_WIDTH, share

    def _mixed(self, each: Tensor, share: Tensor) -> Tensor:
        """(batch, head * component, query, x) weighted and summed to (batch, head, query, x)."""
        parts = each.unflatten(1, (self.num_heads, self.components)).transpose(2, 3)
        return (parts * share.to(parts.dtype).unsqueeze(-1)).sum(3)

    def _functional_mask(self, mask: Tensor | None, batch: int) -> Tensor | None:
        mask = super()._functional_mask(mask, batch)
        if mask is None or mask.dim() < 4 or mask.shape[1] == 1:
            return mask
        return mask.repeat_interleave(self.components, dim=1)


class ForwardAttention(TimedAttention):
    """Cross-attention that follows the source token by token, by content and a chance to move on.

    The weights are the posterior of a monotone hidden Markov model (``forward_posterior``): a
    frame's emission of a token is ``exp(q . k / sqrt(d))``, its chance to move on ``sigmoid(w .
    frame + b)``, which starts at ``query_rate`` tokens a frame. A baseline for ``ClockAttention``,
    called as it is; it has no end beyond its last token.

    Raises ``ValueError`` for a ``query_rate`` outside [0, 1), and for ``attn_mask`` and
    ``is_causal``, ``TypeError`` for a ``key_padding_mask`` that is not boolean.

    Source: forward attention with transition agent (arXiv 1807.06736). Differs: see
    ``functional.forward_posterior``; every head follows by itself.
    """

    OFF: ClassVar[dict[str, float]] = {**AttentionCore.OFF, "query_rate": 0.0}

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
        if not 0.0 <= query_rate < 1.0:
            raise ValueError(f"query_rate is a chance to move on, in [0, 1); it is {query_rate}")
        self.kdim = embed_dim if kdim is None else kdim
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.k_proj = nn.Linear(self.kdim, embed_dim, bias=bias)
        self.move = nn.Linear(embed_dim, num_heads)
        nn.init.zeros_(self.move.weight)
        start = math.log(query_rate / (1.0 - query_rate)) if query_rate else -math.inf
        nn.init.constant_(self.move.bias, start)

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
        if padding is not None and padding.dtype != torch.bool:
            raise TypeError(
                "key_padding_mask must be boolean (True = padding) in forward attention, not "
                f"{padding.dtype}: its weights are probabilities, not scores"
            )
        content = wide_linear(self.k_proj, key).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        side = {"key": content, "value": self._values(value)}
        mask = self._real_source(padding, key)
        return side if mask is None else side | {"mask": mask}
