"""Which keys a query may see, as a rule of positions alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class Full:
    """Every query sees every key."""


@dataclass(frozen=True)
class Causal:
    """Query i sees key j iff ``j <= i + S - L`` and, with a window W, ``j > i + S - L - W``.

    The corner is bottom-right: the last of L queries sees the last of S keys, as in decoding with
    a cache (``is_causal`` of PyTorch's SDPA is top-left). ``window`` counts keys, oneself included;
    without ``own`` a query does not see its own key: ``j < i + S - L``.

    The ``first`` keys of the row stay visible to every later query, whatever the window: the first
    that take part, so padding does not count, and those of each document where several are packed.
    A mask of keys alone counts as padding, one over queries and keys does not (for a single query
    the two are the same, and count).

    Raises ``ValueError`` for a window below 1, below 2 without ``own``, for a negative ``first``
    and one without a window.

    Source: the first tokens that stay are those of StreamingLLM (arXiv 2309.17453, section 3.2).
    Differs: rotary positions stay those of the tokens, and are not counted within the cache.
    """

    window: int | None = None
    own: bool = True
    first: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.own, bool):
            raise TypeError(f"own is True or False; it is {self.own!r}")
        if not isinstance(self.first, int) or isinstance(self.first, bool):
            raise TypeError(f"first counts keys: an integer, not {self.first!r}")
        if self.first < 0:
            raise ValueError(f"first counts keys, so it is at least 0; it is {self.first}")
        if self.first and self.window is None:
            raise ValueError(
                f"first={self.first} keeps keys that a window would hide, but there is no window; "
                "give window=W, or leave first out"
            )
        if self.window == 1 and not self.own:
            raise ValueError(
                "a window of 1 holds oneself alone, and own=False leaves oneself out; take a "
                "window of at least 2"
            )
        if self.window is not None and self.window < 1:
            raise ValueError(
                f"a window counts the keys a query sees, itself included, so it is at least 1; "
                f"it is {self.window}. Leave it out (None) to see the whole past"
            )

    def others(self) -> Causal:
        """What is left of it over all keys but the last, where oneself is left out."""
        return Causal(None if self.window is None else self.window - 1, first=self.first)


@dataclass(frozen=True)
class Band:
    """Query i sees key j iff ``|i + S - L - j| <= radius`` (aligned at the last position).

    Raises ``ValueError`` for a negative radius.
    """

    radius: int

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise ValueError(
                f"a radius counts neighbours to either side, so it is at least 0; it is "
                f"{self.radius}. Use Full() to see everything"
            )


Metric = Literal["manhattan", "chebyshev"]
METRICS: tuple[Metric, ...] = ("manhattan", "chebyshev")


@dataclass(frozen=True)
class Grid:
    """A picture's patches, row by row after ``global_tokens`` others: each sees those near it.

    Patch (r, c) sees patch (r', c') iff ``|r - r'| + |c - c'| <= radius`` (manhattan) or
    ``max(|r - r'|, |c - c'|) <= radius`` (chebyshev), itself included. Global tokens, such as class
    and register tokens, come first, see everything and are seen by all. There are as many queries
    as keys, ``global_tokens + height * width``.

    Raises ``ValueError`` for an empty grid, a negative number, or an unknown metric, ``TypeError``
    for what is no integer.

    Source: arXiv 2602.11534, vision: radius 1 manhattan (4 neighbours) on CIFAR-10, radius 2
    chebyshev (24) on ImageNet.
    """

    height: int
    width: int
    radius: int = 1
    metric: Metric = "manhattan"
    global_tokens: int = 1

    def __post_init__(self) -> None:
        for name in ("height", "width", "radius", "global_tokens"):
            if not isinstance(getattr(self, name), int):
                raise TypeError(f"{name} counts: an integer, not {getattr(self, name)!r}")
        if self.height < 1 or self.width < 1:
            raise ValueError(
                f"a grid has at least one row and one column of patches, not {self.height} x "
                f"{self.width}; divide the picture's sides by the patch's"
            )
        for name in ("radius", "global_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} counts, so it is at least 0; it is {getattr(self, name)}")
        if self.metric not in METRICS:
            raise ValueError(f"metric is manhattan or chebyshev; it is {self.metric!r}")

    @property
    def tokens(self) -> int:
        """Global tokens and patches together."""
        return self.global_tokens + self.height * self.width

    @property
    def neighbors(self) -> int:
        """Patches that a patch far from the edge sees, itself included."""
        if self.metric == "manhattan":
            return 2 * self.radius * (self.radius + 1) + 1
        return (2 * self.radius + 1) ** 2

    @property
    def sees_all(self) -> bool:
        """Whether every patch sees every other."""
        rows, columns = self.height - 1, self.width - 1
        return self.radius >= (rows + columns if self.metric == "manhattan" else max(rows, columns))

    def near(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Whether patches so many rows and columns away are seen."""
        rows, columns = rows.abs(), columns.abs()
        away = rows + columns if self.metric == "manhattan" else torch.maximum(rows, columns)
        return away <= self.radius

    def visible(self, query_position: Tensor, key_position: Tensor) -> Tensor:
        """Boolean (..., query, key), of positions counted from the first global token."""
        query = (query_position - self.global_tokens).unsqueeze(-1)
        key = (key_position - self.global_tokens).unsqueeze(-2)
        near = self.near(
            query // self.width - key // self.width, query % self.width - key % self.width
        )
        return near | (query < 0) | (key < 0)


Neighborhood: TypeAlias = Full | Causal | Band | Grid


def check_sizes(neighborhood: Neighborhood, queries: int, keys: int) -> None:
    """Raise ``ValueError`` if a grid has another number of tokens than there are."""
    if isinstance(neighborhood, Grid) and (queries, keys) != (neighborhood.tokens,) * 2:
        raise ValueError(
            f"{neighborhood} has {neighborhood.tokens} tokens ({neighborhood.global_tokens} global "
            f"ones, {neighborhood.height} x {neighborhood.width} patches), but there are {queries} "
            f"queries and {keys} keys; give the grid the picture's number of patches"
        )


def reach(neighborhood: Neighborhood) -> tuple[int | None, int | None]:
    """How many positions back and ahead a query sees, None where there is no such limit.

    The first keys of ``Causal(window, first=N)`` are left out.
    """
    match neighborhood:
        case Full() | Grid():
            return None, None
        case Causal(window, own, _):
            return (None if window is None else window - 1), 0 if own else -1
        case Band(radius):
            return radius, radius
    raise TypeError(
        "a neighborhood is Full(), Causal(window), Band(radius) or Grid(height, width), not "
        f"{neighborhood!r}"
    )


def without_own(neighborhood: Neighborhood, *, successors: bool = False) -> Neighborhood | None:
    """Leave oneself out of a past; None for what is not causal, which takes a mask.

    Raises ``ValueError`` for a window of 1, and for what is not causal where ``successors`` are to
    be known.
    """
    if successors and not isinstance(neighborhood, Causal):
        raise ValueError(
            f"successors are those of earlier tokens: give neighborhood=Causal(), not "
            f"{neighborhood}"
        )
    if not isinstance(neighborhood, Causal):
        return None
    return replace(neighborhood, own=False)


def causal_part(neighborhood: Neighborhood) -> Neighborhood:
    """The neighbourhood intersected with "not ahead of the query".

    Raises ``ValueError`` for a grid.
    """
    match neighborhood:
        case Grid():
            raise ValueError(
                "a picture's patches have no past: is_causal does not go with Grid; use "
                "Causal(window) for pixels in raster order"
            )
        case Full():
            return Causal()
        case Band(radius):
            return Causal(window=radius + 1)
    return neighborhood


def visible(
    neighborhood: Neighborhood, query_position: Tensor, key_position: Tensor
) -> Tensor | None:
    """Boolean (..., query, key), True where the key may be seen; None if all may.

    Positions are integers on one axis; queries already carry the offset ``S - L``. The first keys
    of ``Causal(window, first=N)`` are those of a row, which positions do not say: left out.
    """
    if isinstance(neighborhood, Grid):
        return neighborhood.visible(query_position, key_position)
    back, ahead = reach(neighborhood)
    distance = query_position.unsqueeze(-1) - key_position.unsqueeze(-2)
    allowed = None
    if back is not None:
        allowed = distance <= back
    if ahead is not None:
        allowed = distance >= -ahead if allowed is None else allowed & (distance >= -ahead)
    return allowed


def positions(queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Query and key positions with the last query at the last key."""
    query_position = torch.arange(queries, device=device) + (keys - queries)
    return query_position, torch.arange(keys, device=device)


def check_top_k(top_k: int | None) -> None:
    """Raise unless ``top_k`` counts keys: ``TypeError`` for no integer, ``ValueError`` below 1."""
    if top_k is None:
        return
    if not isinstance(top_k, int) or isinstance(top_k, bool):
        raise TypeError(f"top_k counts the keys to keep: an integer, not {top_k!r}")
    if top_k < 1:
        raise ValueError(f"top_k counts the keys to keep, so it is at least 1; it is {top_k}")
