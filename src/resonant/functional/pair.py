"""Scores that depend on where a query and a key stand: functions of two centers.

Kept apart from the features of a lift because, lifted as they stand, differences cancel
catastrophically: paths move the origin to each block of queries, or form the difference.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

P = TypeVar("P", bound="Pair")


@dataclass(frozen=True)
class Pair(ABC):
    """Logits, in nats, of a query's center (and what else it knows) and a key's.

    Tensors of queries are (batch or 1, head or 1, query), those named in ``KEY`` (batch or 1,
    key_head or 1, key), float32 or better. Those named in ``CONSTANT`` may have one number for
    all queries.
    """

    KEY: ClassVar[tuple[str, ...]] = ()
    QUERY: ClassVar[tuple[str, ...]] = ()
    CONSTANT: ClassVar[tuple[str, ...]] = ()

    query: Float[Tensor, "#batch #head query"]

    @abstractmethod
    def logits(self, groups: int, dtype: torch.dtype) -> Float[Tensor, "#batch #head query key"]:
        """The logits in ``dtype``; ``groups`` query heads share a key head. Broadcasts."""

    def queries(self: P, start: int, stop: int) -> P:
        """The same pair over the queries ``start:stop`` alone."""
        sides = {name: getattr(self, name) for name in self.QUERY}
        cut = {
            n: x if x.shape[-1] == 1 and n != "query" else x[..., start:stop]
            for n, x in sides.items()
        }
        return replace(self, **cut)

    def key_side(self) -> dict[str, Tensor]:
        """What belongs to keys, by name."""
        return {name: getattr(self, name) for name in self.KEY}

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by name."""
        return {name: getattr(self, name) for name in (*self.QUERY, *self.KEY)}

    def _from_query(
        self, key: Float[Tensor, "#batch #key_head key"], groups: int, dtype: torch.dtype
    ) -> Float[Tensor, "#batch #head query key"]:
        """``key_j - query_i``: formed, then rounded to ``dtype``."""
        return (_per_head(key, groups) - self.query.unsqueeze(-1)).to(dtype)


def _per_head(key: Tensor, groups: int) -> Tensor:
    """A tensor of keys for each query head, (..., 1, key)."""
    each = key if key.shape[1] == 1 else key.repeat_interleave(groups, dim=1)
    return each.unsqueeze(-2)


def middle(center: Float[Tensor, "batch head query"]) -> Float[Tensor, "batch head 1"]:
    """Half-way between the first and the last center; a constant for gradients."""
    still = center.detach()
    return 0.5 * (still.amin(-1, keepdim=True) + still.amax(-1, keepdim=True))


@dataclass(frozen=True)
class Gaussian(Pair):
    """``-precision_i / 2 (query_i - key_j)^2`` nats: the one pair that can be lifted.

    ``precision`` (batch or 1, head or 1, query or 1) is in inverse squares of the centers' unit.
    Blocks of queries are lifted together where they stand near each other; with ``direct`` none
    are, so that no rounding of a query's depends on where later ones stand.
    """

    KEY = ("key",)
    QUERY = ("query", "precision")
    CONSTANT = ("precision",)

    key: Float[Tensor, "#batch #key_head key"]
    precision: Float[Tensor, "#batch #head #query"]
    direct: bool = False

    def logits(self, groups: int, dtype: torch.dtype) -> Tensor:
        distance = self._from_query(self.key, groups, dtype)
        return -0.5 * self.precision.to(dtype).unsqueeze(-1) * distance.square()


@dataclass(frozen=True)
class Meeting(Pair):
    """``log N(query_i - key_j; 0, V)``, ``V = query_variance_i + diffusion key_spread_j``, in nats.

    The density of two Gaussian variables meeting, but for a constant. ``diffusion`` (batch or 1,
    head or 1, 1) scales what is known of keys for each query head. Variances are in squares of the
    centers' unit; that of the query must be above 0.
    """

    KEY = ("key", "key_spread")
    QUERY = ("query", "query_variance", "diffusion")
    CONSTANT = ("query_variance", "diffusion")

    key: Float[Tensor, "#batch #key_head key"]
    query_variance: Float[Tensor, "#batch #head #query"]
    key_spread: Float[Tensor, "#batch #key_head key"]
    diffusion: Float[Tensor, "#batch #head 1"]

    def logits(self, groups: int, dtype: torch.dtype) -> Tensor:
        distance = self._from_query(self.key, groups, dtype)
        spread = _per_head(self.key_spread, groups) * self.diffusion.unsqueeze(-1)
        variance = (self.query_variance.unsqueeze(-1) + spread).to(dtype)
        return -0.5 * (distance.square() / variance + variance.log())


@dataclass(frozen=True)
class Interval(Pair):
    """``log(Phi((end_j - query_i) sqrt(precision_i)) - Phi((start_j - query_i) sqrt(...)))`` nats.

    The probability that a Gaussian variable around the query lies between the key's two ends; -inf
    where these are one.
    """

    KEY = ("start", "end")
    QUERY = ("query", "precision")
    CONSTANT = ("precision",)

    start: Float[Tensor, "#batch #key_head key"]
    end: Float[Tensor, "#batch #key_head key"]
    precision: Float[Tensor, "#batch #head #query"]

    def logits(self, groups: int, dtype: torch.dtype) -> Tensor:
        # In float64: in float32 neighbouring tails far out are one number, and so are gradients.
        scale = self.precision.double().sqrt().unsqueeze(-1)
        empty = self.end <= self.start
        # An empty interval has no finite logarithm, and its gradient is no number: any other
        # interval stands in for it and is masked afterwards.
        end = torch.where(empty, self.start + 1.0, self.end)
        ends = (self._from_query(x, groups, torch.float64) * scale for x in (self.start, end))
        return log_normal_mass(*ends).to(dtype).masked_fill(_per_head(empty, groups), -math.inf)


def log_normal_mass(
    low: Float[Tensor, "*shape"], high: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """``log(Phi(high) - Phi(low))`` for low < high, exact far out in either tail.

    Reflected to the left tail, then ``log Phi(b) + log(1 - exp(log Phi(a) - log Phi(b)))``.
    """
    right = low + high > 0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    upper = log_phi(high)
    # Never 0: ends that a rounding error holds apart would have the logarithm -inf.
    ratio = (log_phi(low) - upper).clamp(max=-torch.finfo(low.dtype).tiny)
    return upper + torch.log(-torch.expm1(ratio))


def log_phi(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``log Phi(x)`` whose gradient holds at any distance, unlike that of ``log_ndtr``.

    ``log(erfcx(-x / sqrt 2) / 2) - x^2 / 2`` to the left of 0, ``log(1 - erfc(x / sqrt 2) / 2)`` to
    the right.
    """
    left = x < 0
    z = x * (-math.sqrt(0.5))
    scaled = torch.special.erfcx(torch.where(left, z, torch.zeros_like(z)))
    beyond = torch.special.erfc(torch.where(left, torch.zeros_like(z), -z))
    by_tail = torch.log(0.5 * scaled) - torch.where(left, z, torch.zeros_like(z)).square()
    return torch.where(left, by_tail, torch.log1p(-0.5 * beyond))
