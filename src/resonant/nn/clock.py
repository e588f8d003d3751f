"""Stochastic-clock attention as a module."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..functional.clock import DIFFUSION, FLOOR, SCORES, Clock, Score, clock, clock_lift
from ..functional.filter import VARIANCE, FilteredClock, filter_lift
from ..functional.lift import Lift
from ..functional.mask import as_bias, from_blocked
from .cache import CrossCache
from .core import AttentionCore
from .energy import EnergyGate
from .parameter import HeadScalar, wide_linear
from .timed import ClockFilter, TimedAttention, inverse_softplus


class ClockAttention(TimedAttention):
    """Cross-attention by noisy clocks: a frame attends to the tokens that its clock meets.

    Rates are ``softplus(w . feature + b)`` per head, of source features (``key``) and of target
    features (``query``); their running sums are clocks, and scores say where two clocks meet (see
    ``functional.clock_attention``): there are no queries and keys. ``normalized`` clocks run from 0
    to 1 over each side and need the whole target (parallel decoding, its length known);
    ``normalized=False`` runs on frame by frame (autoregressive decoding, ``cache``).

    ``listen`` makes a running clock a filter: its place is corrected by what the frames so far
    resemble (``functional.clock_filter``), with ``tempo`` its speed too; ``diffusion`` starts at
    0.05 then, as the target's own noise alone. The scores are frozen, and corrections may go back:
    the theorem of monotonicity does not hold.

    ``score`` is frozen, density or interval; ``measure`` weighs tokens by their rate. ``diffusion``
    and ``floor`` are the starts of the clocks' noise and of the spread without noise, learned per
    head. Rates do not depend on features at the start: a source token takes 1, a target token
    ``query_rate`` (source tokens per frame; of no consequence for normalized clocks, which start on
    the diagonal). Other arguments are those of ``nn.MultiheadAttention``; ``gate`` is an
    ``EnergyGate`` on source tokens.

    Masks are MultiheadAttention's (boolean True = blocked). ``query_padding_mask`` (batch, query),
    True = padding, keeps padded frames from taking time; inside ``nn.TransformerDecoderLayer``,
    which has no such argument, use ``padded_queries``.

    Raises ``ValueError`` for an unknown score, numbers out of range, a cache with normalized
    clocks, and ``listen`` with those or with another score.

    Source: arXiv 2509.14678. Differs: see ``functional.clock_attention``; ``listen`` is ours.
    """

    OFF: ClassVar[dict[str, float]] = {
        **AttentionCore.OFF,
        "diffusion": 0.0,  # the floor alone: one width everywhere
        "floor": math.inf,  # the mean over the source
        "query_rate": 0.0,  # a clock that stands still
    }

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        normalized: bool = True,
        score: Score = "frozen",
        measure: bool = False,
        listen: bool = False,
        tempo: bool = False,
        diffusion: float | None = None,
        floor: float = FLOOR,
        query_rate: float = 1.0,
        bias: bool = True,
        dropout: float = 0.0,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        num_key_value_heads: int | None = None,
        gate: EnergyGate | None = None,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            bias=bias,
            vdim=vdim,
            dropout=dropout,
            batch_first=batch_first,
            num_key_value_heads=num_key_value_heads,
            gate=gate,
        )
        if score not in SCORES:
            raise ValueError(f"score is one of {', '.join(SCORES)}; it is {score!r}")
        if measure and score == "interval":
            raise ValueError("score='interval' holds each token's rate already; leave out measure")
        _check_listening(score, listen=listen, tempo=tempo, measure=measure, normalized=normalized)
        if not floor > 0:
            raise ValueError(f"floor is a spread and must be above 0; it is {floor}")
        source_dim = self.kdim = embed_dim if kdim is None else kdim
        self._check_gate(source_dim)
        self.normalized, self.measure = normalized, measure
        self.watch: Callable[[Clock | FilteredClock, Clock], None] | None = None  # is shown both
        self.score: Score = score
        self.q_rate = nn.Linear(embed_dim, num_heads)
        self.k_rate = nn.Linear(source_dim, self.num_key_value_heads)
        if diffusion is None:
            diffusion = VARIANCE if listen else DIFFUSION
        self.diffusion = HeadScalar(num_heads, diffusion, positive=True)
        self.floor = HeadScalar(num_heads, floor, positive=True)
        for projection, rate in ((self.q_rate, query_rate), (self.k_rate, 1.0)):
            nn.init.zeros_(projection.weight)
            nn.init.constant_(projection.bias, inverse_softplus(rate))
        self.filter: ClockFilter | None = None
        if listen:
            heads = num_heads, self.num_key_value_heads
            self.filter = ClockFilter(embed_dim, source_dim, heads, tempo=tempo)

    def _rates(self, rate: nn.Module, x: Tensor) -> Tensor:
        """Clock time that each token takes (batch, head, token)."""
        if torch.compiler.is_compiling():
            # Compiled backward passes mistake the strides of what is transposed after softplus.
            return F.softplus(wide_linear(rate, x).transpose(1, 2).contiguous())
        return F.softplus(wide_linear(rate, x)).transpose(1, 2)

    def _clock(
        self,
        rate: nn.Module,
        x: Tensor,
        mask: Tensor | None,
        start: Tensor | None = None,
        *,
        pace: float = 1.0,
    ) -> Clock:
        rates = pace * self._rates(rate, x)
        return clock(rates, normalized=self.normalized, mask=mask, start=start)

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

        With ``cache`` the frames go on from those of earlier calls; the source is that of the first
        call, and its padding too. ``is_causal`` and ``attn_mask`` intersect with what the clocks
        say, and break the theorem of monotonicity.
        """
        key = query if key is None else key
        value = key if value is None else value
        self._check(query, key, value, cache, positional=is_causal or attn_mask is not None)
        real = self._real_queries(query_padding_mask, query)
        bias = None
        if cache is None:
            side = self._source(key, value, key_padding_mask)
        else:
            side, bias = self._remembered(cache, key, value, key_padding_mask)
            key_padding_mask = None
        source = Clock(
            side["start"], side["rate"], side["total"], side.get("mask"), self.normalized
        )
        if self.filter is not None:
            lift = self._listening(query, source, side, real=real, cache=cache)
        else:
            lift = self._running(query, source, side, real=real, cache=cache)
        neighborhood = self.neighborhood_of(query, key, is_causal=is_causal)
        options: dict[str, Any] = {"neighborhood": neighborhood, "need_weights": need_weights}
        options |= {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask}
        output, weights = self._attend(lift.add_bias(bias), key, **options)
        return self.out_proj(output.transpose(1, 2).flatten(2)), weights

    def _running(
        self,
        query: Tensor,
        source: Clock,
        side: Mapping[str, Tensor],
        *,
        real: Tensor | None,
        cache: CrossCache | None,
    ) -> Lift:
        """Scores of target clocks that tick by their rates alone."""
        start = None if cache is None else cache.running
        target = self._clock(self.q_rate, query, real, start, pace=self.pace)
        if self.watch is not None:
            self.watch(target, source)
        if cache is not None:
            cache.advance(target.total, source.total, query.shape[1])
        return clock_lift(
            target,
            source,
            side["value"],
            score=self.score,
            diffusion=self.diffusion(),
            floor=self.floor(),
            measure=self.measure,
            direct=not self.normalized,
        )

    def _listening(
        self,
        query: Tensor,
        source: Clock,
        side: Mapping[str, Tensor],
        *,
        real: Tensor | None,
        cache: CrossCache | None,
    ) -> Lift:
        """Scores of target clocks that are corrected by what frames resemble."""
        assert self.filter is not None
        target = self.filter(
            query,
            self.pace * self._rates(self.q_rate, query),
            source,
            side["content"],
            diffusion=self.diffusion(),
            mask=real,
            state=None if cache is None else cache.listening,
        )
        if self.watch is not None:
            self.watch(target, source)
        if cache is not None:
            position = target.state.position.unsqueeze(-1)
            cache.listening = target.state
            cache.advance(position, source.total, query.shape[1])
        return filter_lift(target, source, side["value"], floor=self.floor(), direct=True)

    def _source(self, key: Tensor, value: Tensor, padding: Tensor | None) -> dict[str, Tensor]:
        """What belongs to the source: its clock and the heads' values."""
        source = self._clock(self.k_rate, key, self._real_source(padding, key))
        side = {"start": source.start, "rate": source.rate, "total": source.total}
        if source.mask is not None:
            side["mask"] = source.mask
        if self.filter is not None:
            side["content"] = self.filter.content(key)
        return side | {"value": self._values(value)}

    def _remembered(
        self, cache: CrossCache, key: Tensor, value: Tensor, padding: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """The source of the first call, and its padding as a bias."""
        if self.normalized:
            raise ValueError(
                "normalized clocks need the whole target at once, so they have no cache; decode in "
                "parallel, or make the module with normalized=False"
            )
        if self.gate is not None:
            raise ValueError("a cache holds clocks and values, no gate; leave out gate or cache")
        if not cache.source:
            side = self._source(key, value, padding)
            if padding is not None:
                side["bias"] = as_bias(from_blocked(padding)).unsqueeze(1)
            cache.source = side
        cache.check(key)
        if ("content" in cache.source) != (self.filter is not None):
            begun = "do not listen" if self.filter is not None else "listen"
            raise TypeError(f"this cache was begun by clocks that {begun}; make a new one")
        return cache.source, cache.source.get("bias")


def _check_listening(
    score: Score, *, listen: bool, tempo: bool, measure: bool, normalized: bool
) -> None:
    if tempo and not listen:
        raise ValueError("tempo is of clocks that listen; give listen=True too")
    if not listen:
        return
    if normalized:
        raise ValueError("only running clocks listen; make the module with normalized=False")
    if score != "frozen" or measure:
        raise ValueError("clocks that listen have the frozen score; leave out score and measure")
