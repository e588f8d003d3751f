"""Masks: the two polarities, the float masks, and where each goes in the engine.

``functional`` speaks SDPA's language: boolean True = takes part. ``resonant.nn`` speaks
MultiheadAttention's: boolean True = blocked. Float masks are added in both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .lift import Lift
from .neighborhood import Causal, Neighborhood, without_own

AS_GOOD_AS_BLOCKED = -10_000.0  # nats: other libraries write -1e4 or -1e9 for padding


def from_blocked(mask: Tensor) -> Tensor:
    """Turn MultiheadAttention's polarity (True = blocked) into SDPA's (True = takes part).

    Float masks are added in both conventions and come back unchanged. Raises ``TypeError`` for
    integers, which could mean either.
    """
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(
            f"a mask must be boolean (True = blocked) or float (added), not {mask.dtype}; convert "
            "0/1 integers with .bool()"
        )
    return ~mask if mask.dtype == torch.bool else mask


def as_bias(mask: Tensor) -> Tensor:
    """An SDPA mask as nats to add, in float32 or better: -inf where blocked.

    Large finite numbers that stand for "blocked" (masks filled with ``finfo.min``) become -inf:
    taken literally they give a row that sees nothing the mean of everything.
    """
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, float("-inf"))
    blocked = mask <= torch.finfo(mask.dtype).min / 2
    wide = mask if mask.dtype == torch.float64 else mask.float()
    return wide.masked_fill(blocked, float("-inf"))


def blocked(bias: Tensor) -> Tensor:
    """Find where a bias in nats is as good as -inf: boolean, False for what is not a number."""
    return bias <= AS_GOOD_AS_BLOCKED


def take_part(bias: Tensor) -> Tensor:
    """Find the keys that a bias (batch, head, key) leaves in for any head: boolean (batch, key)."""
    return ~blocked(bias).all(1)


def real_keys(padding: Tensor | None) -> Tensor | None:
    """Where MultiheadAttention's ``key_padding_mask`` leaves keys in: boolean (batch, key).

    In float masks a number of -10,000 nats or below, as good as -inf, means padding too; what is
    not a number does not, and comes out as it is.
    """
    return None if padding is None else ~blocked(as_bias(from_blocked(padding)))


def split_mask(
    lift: Lift, mask: Tensor | None, neighborhood: Neighborhood
) -> tuple[Lift, Tensor | None]:
    """Move a mask that depends on the key alone into the lift's key bias.

    ``mask`` broadcasts to (batch, head, query, key). What depends on the query too comes back as
    a 4-D tensor, unless it says what the neighborhood says already; what does not (padding) needs
    no T x T tensor on any path.
    """
    if mask is None:
        return lift, None
    mask = unexpanded(_four_axes(lift, mask))
    if says_nothing(mask, neighborhood, lift.query.shape[2], lift.key.shape[2]):
        return lift, None
    heads = lift.key.shape[1] if lift.groups == 1 else 1
    if mask.shape[2] == 1 and mask.shape[1] in (1, heads):
        keys = lift.key.shape[2]
        return lift.add_bias(as_bias(mask).squeeze(2).expand(-1, -1, keys)), None
    return lift, mask


def says_nothing(mask: Tensor, neighborhood: Neighborhood, queries: int, keys: int) -> bool:
    """Whether an SDPA mask leaves alone all that a causal neighborhood lets through.

    Such is the usual triangle beside ``Causal``: as a matrix it would keep windows from their
    bands. Only the entries in the neighborhood are looked at, so with a window in time (query x
    window), and only on the CPU, where looking does not wait for a device; not in compiled graphs.
    """
    if not isinstance(neighborhood, Causal) or mask.requires_grad or mask.device.type != "cpu":
        return False
    if torch.compiler.is_compiling() or tuple(mask.shape[:2]) != (1, 1):
        return False
    if tuple(mask.shape[2:]) != (queries, keys):
        return False
    square, window = mask[0, 0], neighborhood.window
    offset = keys - queries
    if window is None or window >= keys or neighborhood.first:
        future = torch.ones(queries, keys, dtype=torch.bool).triu(offset + 1)
        return bool((_neutral(square) | future).all())
    # Rows whose window lies within the keys are a band of equal length; the first are fewer keys.
    first = min(queries, max(0, window - 1 - offset))
    row, column = square.stride()
    start = square.storage_offset() + first * row + (first + offset - window + 1) * column
    if first == queries:
        start = square.storage_offset()
    band = square.as_strided((queries - first, window), (row + column, column), start)
    early = square[:first, : first + offset]
    hidden = torch.ones(early.shape, dtype=torch.bool).triu(offset + 1)
    return bool(_neutral(band).all()) and bool((_neutral(early) | hidden).all())


def _neutral(mask: Tensor) -> Tensor:
    return mask if mask.dtype == torch.bool else mask == 0


def unexpanded(mask: Tensor) -> Tensor:
    """The mask without what was only expanded: leading axes of stride 0 have length 1."""
    for axis in range(mask.dim() - 2):
        if mask.stride(axis) == 0:
            mask = mask.narrow(axis, 0, 1)
    return mask


def _four_axes(lift: Lift, mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(
            f"attn_mask must be boolean (True = takes part) or float (added), not {mask.dtype}; "
            "convert 0/1 integers with .bool()"
        )
    target = (*lift.query.shape[:3], lift.key.shape[2])
    shape = (1,) * (4 - mask.dim()) + tuple(mask.shape)
    fits = mask.dim() in (2, 4) and all(
        have in (1, want) for have, want in zip(shape, target, strict=True)
    )
    if not fits:
        raise ValueError(
            "attn_mask must broadcast to (batch, head, query, key) = "
            f"{tuple(target)} from 2 or 4 axes, but its shape is {tuple(mask.shape)}"
        )
    return mask.reshape(shape)


def of_others(
    neighborhood: Neighborhood, mask: Tensor | None, state: Tensor
) -> tuple[Neighborhood, Tensor | None]:
    """Leave oneself out of a neighborhood and a mask of MultiheadAttention's polarity.

    ``state`` is (batch, token, ...): queries and keys at once.
    """
    others = without_own(neighborhood)
    if others is not None:
        return others, mask
    own = torch.eye(state.shape[1], dtype=torch.bool, device=state.device)
    if mask is None or mask.dtype == torch.bool:
        return neighborhood, own if mask is None else mask | own
    return neighborhood, mask.masked_fill(own, -torch.inf)
