"""Stochastic-clock attention: source and target keep noisy clocks, and attend where they meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .attend import Path, attend
from .lift import Lift
from .pair import Gaussian, Interval, Meeting

Score = Literal["frozen", "density", "interval"]
SCORES: tuple[Score, ...] = ("frozen", "density", "interval")
# Where the learned numbers start: the noise of a clock in its own units, and the spread that
# remains without noise, in source tokens.
DIFFUSION = 1e-3
FLOOR = 0.5
NARROWEST, WIDEST, WIDEST_INTERVAL = 1e-6, 1e18, 1e8  # floors, in clock time


@dataclass(frozen=True)
class Clock:
    """Where tokens stand in clock time: each begins at ``start`` and takes ``rate``.

    ``start`` (batch, head, token) float64: the sum of the rates before the token, of a normalized
    clock as a share of ``total``; ``rate`` (batch, head, token) in the same unit, 0 for padding;
    ``total`` (batch, head, 1) the sum of all rates so far, never normalized; ``mask`` (batch,
    token) True = real, or None where all are. Made by ``clock``.
    """

    start: Float[Tensor, "batch head token"]
    rate: Float[Tensor, "batch head token"]
    total: Float[Tensor, "batch head 1"]
    mask: Bool[Tensor, "batch token"] | None
    normalized: bool

    @property
    def center(self) -> Float[Tensor, "batch head token"]:
        """The middle of each token."""
        return self.start + 0.5 * self.rate

    @property
    def end(self) -> Float[Tensor, "batch head token"]:
        """The end of each token."""
        return self.start + self.rate

    @property
    def count(self) -> Float[Tensor, "#batch 1 1"]:
        """Number of real tokens."""
        if self.mask is None:
            return self.rate.new_full((1, 1, 1), self.rate.shape[-1])
        return self.mask.sum(-1, keepdim=True).to(self.rate.dtype).unsqueeze(1)

    @property
    def spread(self) -> Float[Tensor, "batch head token"]:
        """Variance of the clock at each token's middle, per unit of diffusion.

        ``Lambda`` as it runs; of a normalized clock, whose total is pinned,
        ``lambda (1 - lambda) / R``.
        """
        center = self.center
        if not self.normalized:
            return center
        return (center * (1.0 - center)).clamp(min=0.0) / _above_zero(self.total)


def clock(
    rate: Float[Tensor, "batch head token"],
    *,
    normalized: bool = True,
    mask: Bool[Tensor, "batch token"] | None = None,
    start: Float[Tensor, "batch head 1"] | None = None,
) -> Clock:
    """A clock that passes ``rate[u] >= 0`` at token u: ``Lambda_s = sum_{u<s} r_u + r_s / 2``.

    A ``normalized`` clock runs from 0 to 1: ``lambda_s = Lambda_s / R``, R the sum of all rates; it
    needs the whole sequence. ``mask`` has SDPA's polarity (True = takes part); padding has rate 0.
    ``start`` is the sum of the rates of earlier tokens, for a clock that runs on (``total`` of the
    clock so far). Sums are float64.

    Raises ``ValueError`` for a normalized clock with a ``start``, and for sizes that do not fit.

    Source: arXiv 2509.14678, the clocks. Differs: tokens stand at their middles, so that a token
    cut in two keeps its place.
    """
    if normalized and start is not None:
        raise ValueError(
            "a normalized clock needs all tokens at once, so it has no start; use normalized=False"
        )
    if rate.dim() != 3:
        raise ValueError(f"rate must be (batch, head, token), but it is {tuple(rate.shape)}")
    wide = rate.double()
    if mask is not None:
        if mask.shape != (rate.shape[0], rate.shape[2]):
            raise ValueError(
                f"mask must have shape (batch, token) = {(rate.shape[0], rate.shape[2])}, but it "
                f"is {tuple(mask.shape)}"
            )
        wide = wide.masked_fill(~mask.unsqueeze(1), 0.0)
    end = wide.cumsum(-1)
    if start is not None:
        end = end + start
    before = start if start is not None else end.new_zeros(*end.shape[:-1], 1)
    total = end[..., -1:] if end.shape[-1] else before.expand(*end.shape[:-1], 1)
    begin = end - wide
    if normalized:
        begin, wide = begin / _above_zero(total), wide / _above_zero(total)
    return Clock(begin, wide, total, mask, normalized)


def clock_lift(
    query_clock: Clock,
    key_clock: Clock,
    value: Float[Tensor, "batch key_head key value_dim"],
    *,
    score: Score = "frozen",
    diffusion: float | Float[Tensor, "#head"] = DIFFUSION,
    floor: float | Float[Tensor, "#head"] = FLOOR,
    measure: bool = False,
    direct: bool = False,
) -> Lift:
    """Scores of where two noisy clocks meet, as a lift without features (see ``clock_attention``).

    Padding of the key's clock takes no part. ``direct`` forms every difference instead of lifting
    blocks of them: slower, and bitwise causal (see ``Gaussian``).
    """
    _check(query_clock, key_clock, score, diffusion, floor, measure=measure)
    sizes, clocks = (value.shape[0], value.shape[2]), key_clock.rate.shape
    if sizes != (clocks[0], clocks[2]) or query_clock.rate.shape[0] != clocks[0]:
        raise ValueError(
            "both clocks and the value must share the batch, the source's clock and the value the "
            f"length, but their shapes are {tuple(query_clock.rate.shape)}, {tuple(clocks)} and "
            f"{tuple(value.shape)}"
        )
    heads, key_heads = query_clock.rate.shape[1], value.shape[1]
    nu, eps = (torch.as_tensor(x, device=value.device).double() for x in (diffusion, floor))
    nu, eps = nu.reshape(1, -1, 1), eps.reshape(1, -1, 1)
    if key_clock.normalized:
        eps = eps / key_clock.count.clamp(min=1.0)
    # Beyond, a spread is as good as infinite, and below as good as none, and float64 knows no more.
    eps = eps.clamp(NARROWEST, WIDEST_INTERVAL if score == "interval" else WIDEST)
    center, normalized = query_clock.center, key_clock.normalized
    if score == "density":
        own = nu * query_clock.spread + eps.square()
        pair = Meeting(center, key_clock.center, own, key_clock.spread, nu)
    else:
        both = 2.0 * query_clock.spread
        if normalized:
            source = key_clock.total.repeat_interleave(heads // key_clock.total.shape[1], dim=1)
            target = _above_zero(query_clock.total)
            both = query_clock.spread * (1.0 + target / _above_zero(source))
        precision = 1.0 / (nu * both + eps.square())
        if score == "frozen":
            pair = Gaussian(center, key_clock.center, precision, direct)
        else:
            pair = Interval(center, key_clock.start, key_clock.end, precision)
    shape = query_clock.rate.shape[0], heads, center.shape[-1], 0
    bias = _log_rate(key_clock) if measure else None
    if key_clock.mask is not None:
        hidden = torch.zeros_like(key_clock.mask, dtype=torch.float32)
        hidden = hidden.masked_fill(~key_clock.mask, -math.inf).unsqueeze(1)
        bias = hidden if bias is None else bias + hidden
    query = value.new_zeros(shape)
    key = value.new_zeros(*value.shape[:1], key_heads, value.shape[2], 0)
    return Lift(query, key, value, bias, pair=pair)


def clock_attention(
    query_clock: Clock,
    key_clock: Clock,
    value: Float[Tensor, "batch key_head key value_dim"],
    *,
    score: Score = "frozen",
    diffusion: float | Float[Tensor, "#head"] = DIFFUSION,
    floor: float | Float[Tensor, "#head"] = FLOOR,
    measure: bool = False,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    path: Path | Literal["auto"] = "auto",
) -> Float[Tensor, "batch head query value_dim"]:
    """Attention of a target to the source tokens that its clock meets: monotone by theorem.

    With centers c, ``nu = diffusion``, ``eps = floor`` and the variances of the two clocks
    (``nu * Clock.spread``):

    - ``frozen``: ``-(c_s - c_t)^2 / (2 V_t)``, both variances taken at the target's time:
      ``V_t = 2 nu Lambda_t + eps^2``, normalized ``nu (1/R_s + 1/R_t) lambda_t (1 - lambda_t) +
      eps^2``. Lifted block by block, linear in the length where the spread is small.
    - ``density``: ``-(c_s - c_t)^2 / (2 V) - log V / 2``, ``V = Var_s + Var_t + eps^2``.
    - ``interval``: ``log(Phi((end_s - c_t) / sqrt(V_t)) - Phi((start_s - c_t) / sqrt(V_t)))``, the
      probability of meeting inside token s.

    ``measure`` adds ``log r_s`` (to ``frozen`` and ``density``): a long token weighs more.
    ``diffusion`` is in clock time, ``floor`` in clock time or, for normalized clocks, in units of
    one source token (1 / number of real ones); numbers or (head,). No diffusion leaves the floor
    alone, an infinite floor the mean over the source (for ``interval`` weighted by the rates, its
    limit); below 1e-6 a floor counts as that. Both clocks are normalized, or neither. Query
    heads are a multiple of the key clock's, as in ``Lift``.

    For every row the mean source position never falls as t grows, for ``density`` of normalized
    clocks if ``max(nu / R_s, nu / R_t) <= 8``; a key bias keeps that, an ``attn_mask`` that depends
    on the query breaks it. ``attn_mask`` has SDPA's polarity (True = takes part). Remaining
    arguments: ``attend``.

    Raises ``ValueError`` for an unknown score, a negative diffusion, a floor that is not above 0
    (tensors are not looked at), clocks of two kinds, and sizes that do not fit.

    Source: arXiv 2509.14678 for attention by the meeting density of clocks. Differs: derived by us
    from the noise on (variance nu r of an increment, spread evenly; see
    docs/mechanisms/clock.md), as are ``frozen``, ``interval`` and ``measure``.
    """
    lift = clock_lift(
        query_clock,
        key_clock,
        value,
        score=score,
        diffusion=diffusion,
        floor=floor,
        measure=measure,
    )
    return attend(lift, attn_mask=attn_mask, dropout_p=dropout_p, path=path)


def _above_zero(total: Tensor) -> Tensor:
    """The total, or 1 where no time passes at all: then nothing is divided, and no gradient
    explodes."""
    return torch.where(total > 0, total, torch.ones_like(total))


def _log_rate(of: Clock) -> Tensor:
    """``log r`` in float64, -inf where it is 0, with finite gradients."""
    still = of.rate <= 0
    return of.rate.masked_fill(still, 1.0).log().masked_fill(still, -math.inf)


def _check(
    query_clock: Clock,
    key_clock: Clock,
    score: str,
    *numbers: float | Tensor,
    measure: bool,
) -> None:
    if score not in SCORES:
        raise ValueError(f"score is one of {', '.join(SCORES)}; it is {score!r}")
    if measure and score == "interval":
        raise ValueError("score='interval' holds each token's rate already; leave out measure")
    if query_clock.normalized != key_clock.normalized:
        raise ValueError(
            "both clocks must be normalized or neither, but normalized is "
            f"{query_clock.normalized} for the query and {key_clock.normalized} for the key"
        )
    diffusion, floor = numbers
    if isinstance(diffusion, (int, float)) and not 0 <= diffusion < math.inf:
        raise ValueError(f"diffusion must be finite and not below 0; it is {diffusion}")
    if isinstance(floor, (int, float)) and not floor > 0:
        raise ValueError(f"floor must be above 0; it is {floor}")
