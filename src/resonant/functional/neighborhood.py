"""Which keys a query may see, as a rule of positions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class Full:
    """Every query sees every key."""


@dataclass(frozen=True)
class Causal:
    """Query i sees key j iff ``j <= i + S - L`` and, with a window W, ``j > i + S - L - W``.

    The corner is bottom-right: the last of L queries sees the last of S keys, as in decoding with
    a cache (``is_causal`` of PyTorch's SDPA is top-left). ``window`` counts keys, oneself included.

    Raises ``ValueError`` for a window below 1.
    """

    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(
                f"a window counts the keys a query sees, itself included, so it is at least 1; "
                f"it is {self.window}. Leave it out (None) to see the whole past"
            )


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


Neighborhood: TypeAlias = Full | Causal | Band


def reach(neighborhood: Neighborhood) -> tuple[int | None, int | None]:
    """How many positions back and ahead a query sees, None where there is no limit."""
    match neighborhood:
        case Full():
            return None, None
        case Causal(window):
            return (None if window is None else window - 1), 0
        case Band(radius):
            return radius, radius
    raise TypeError(
        f"a neighborhood is Full(), Causal(window) or Band(radius), not {neighborhood!r}"
    )


def causal_part(neighborhood: Neighborhood) -> Neighborhood:
    """The neighbourhood intersected with "not ahead of the query"."""
    match neighborhood:
        case Full():
            return Causal()
        case Band(radius):
            return Causal(window=radius + 1)
    return neighborhood


def visible(
    neighborhood: Neighborhood, query_position: Tensor, key_position: Tensor
) -> Tensor | None:
    """Boolean (..., query, key), True where the key may be seen; None if all may.

    Positions are integers on one axis; queries already carry the offset ``S - L``.
    """
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
