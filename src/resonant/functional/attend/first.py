"""The first keys of every row and document, which stay visible whatever the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..lift import Lift
from ..mask import take_part
from ..neighborhood import Causal, Neighborhood, visible


def first_of(neighborhood: Neighborhood) -> int:
    """How many first keys the neighborhood keeps visible."""
    return neighborhood.first if isinstance(neighborhood, Causal) else 0


def is_first(lift: Lift, count: int) -> Bool[Tensor, "#batch key"]:
    """Find the keys among the first ``count`` that take part of their row, or of their document.

    Raises ``ValueError`` for documents
    whose label recurs after another one.
    """
    real, rank, _ = _ranks(lift)
    return real & (rank < count)


def seen(
    neighborhood: Neighborhood,
    query_position: Tensor,
    key_position: Tensor,
    first: Bool[Tensor, "#batch key"] | None,
) -> Tensor | None:
    """Find what may be seen: what is ``visible``, and ``first`` keys up to the query's own.

    Boolean (query, key), or (batch or 1, 1, query, key) with ``first``; None if all may be seen.
    """
    allowed = visible(neighborhood, query_position, key_position)
    if first is None or allowed is None:
        return allowed
    assert isinstance(neighborhood, Causal)
    past = visible(Causal(own=neighborhood.own), query_position, key_position)
    assert past is not None
    return allowed | (past & first[:, None, None, :])


def first_before(
    lift: Lift, count: int, starts: Sequence[int]
) -> tuple[Int[Tensor, "#batch start slot"], Bool[Tensor, "#batch start slot"]]:
    """Find the first ``count`` keys of the document that goes on at each of ``starts``.

    Returns their indices, and whether there is such a key before the start; where there is none the
    index is that of the key just before it. A query from ``start`` on sees no first keys before it
    but these.
    """
    real, rank, run = _ranks(lift)
    keys = real.shape[-1]
    # Keys in order, by document and by how many real ones of it stand before: in between, those
    # that take no part repeat the number of the one before them.
    upto = torch.where(real, rank + 1, rank)
    order = run * (keys + 1) + upto
    start = torch.tensor(starts, device=order.device)
    before = run[:, (start - 1).clamp(min=0)]
    slot = torch.arange(1, count + 1, device=order.device)
    wanted = before.unsqueeze(-1) * (keys + 1) + slot
    place = torch.searchsorted(order, wanted.flatten(1)).view_as(wanted)
    index = place.clamp(max=keys - 1)
    found = order.gather(1, index.flatten(1)).view_as(wanted) == wanted
    there = found & (index < start[:, None])
    # An empty slot is of the document that goes on, so that no document begins there.
    return torch.where(there, index, (start - 1).clamp(min=0)[:, None]), there


def at(lift: Lift, index: Int[Tensor, "#batch slot"], there: Bool[Tensor, "#batch slot"]) -> Lift:
    """Take the keys at ``index`` for the same queries; those not ``there`` take no part.

    In time and memory of what is taken, gradients among it but for one buffer as long as the keys.
    """
    side = lift.key_side()
    if "key_bias" not in side:
        side["key_bias"] = lift.key.new_zeros(1, 1, lift.key.shape[2], dtype=torch.float32)
    taken = {name: take(x, index) for name, x in side.items()}
    for name in ("key", "value"):
        taken[name] = taken[name].expand(lift.key.shape[0], *taken[name].shape[1:])
    taken["key_bias"] = taken["key_bias"].masked_fill(~there.unsqueeze(1), float("-inf"))
    return lift.with_key_side(taken)


def take(x: Tensor, index: Int[Tensor, "#batch slot"]) -> Tensor:
    """Take entries of axis 2 of (batch or 1, head, key, ...)."""
    shape = (index.shape[0], 1, index.shape[1], *(1,) * (x.dim() - 3))
    return torch.take_along_dim(x, index.reshape(shape), dim=2)


def joined(first: Lift, rest: Lift) -> Lift:
    """Put the keys of ``first`` before those of ``rest``, for the queries of ``rest``."""
    before, after = first.key_side(), rest.key_side()
    if "key_bias" not in after:
        after["key_bias"] = before["key_bias"].new_zeros(1, 1, rest.key.shape[2])
    return rest.with_key_side(_side_by_side(before, after))


def compacted(
    lift: Lift, mask: Tensor | None, count: int, start: int
) -> tuple[Lift, Tensor | None]:
    """Leave out keys before ``start`` that are not among the first ``count``.

    Queries whose window begins at ``start`` or later see what they saw. Of ``mask`` (batch, head,
    query, key) the same columns come back.
    """
    index, there = (x[:, 0] for x in first_before(lift, count, [start]))
    keys = lift.key.shape[2]
    if mask is not None and mask.shape[3] > 1:
        mask = mask_with_first(mask, mask[..., start:], index)
    return joined(at(lift, index, there), lift.keys(start, keys)), mask


def mask_with_first(whole: Tensor, rest: Tensor, index: Int[Tensor, "#batch slot"]) -> Tensor:
    """Put the columns ``index`` of ``whole`` before ``rest``: masks (batch or 1, ..., key)."""
    columns = torch.take_along_dim(whole, index[:, None, None, :], dim=3)
    batch = max(len(columns), len(rest))
    return torch.cat([x.expand(batch, *x.shape[1:]) for x in (columns, rest)], dim=3)


@dataclass(frozen=True)
class FirstKeys:
    """The first keys of each row's document that have left a cache's window, in order.

    ``side`` holds what ``Lift.key_side`` names and the rank of each key in its document,
    (batch or 1, head, slot, ...), the latest last; slots that ``there`` (batch, slot) leaves out
    are empty. Nothing is held at first.
    """

    count: int
    side: dict[str, Tensor] = field(default_factory=dict)
    there: Bool[Tensor, "batch slot"] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(x.numel() * x.element_size() for x in self.side.values())

    def after(self, left: dict[str, Tensor]) -> FirstKeys:
        """Take in the next keys that leave the window; those of earlier documents go."""
        batch, tokens = left["key"].shape[0], left["key"].shape[2]
        if tokens == 0:
            return self
        there = torch.ones(batch, tokens, dtype=torch.bool, device=left["key"].device)
        if "key_bias" in left:
            there = take_part(left["key_bias"])
        if self.there is not None:
            left, there = _side_by_side(self.side, left), torch.cat([self.there, there], dim=1)
        there = there & (left["rank"].squeeze(1) < self.count)
        if "documents" in left:
            there = there & (left["documents"] == left["documents"][:, :, -1:]).squeeze(1)
        # False before True, else as they come: the latest slots are the filled ones.
        index = there.long().argsort(dim=1, stable=True)[:, -self.count :]
        side = {name: take(x, index) for name, x in left.items()}
        if "documents" in left:  # so that an empty slot begins no document
            side["documents"] = left["documents"][:, :, -1:].expand_as(side["documents"])
        return FirstKeys(self.count, side, there.gather(1, index))

    def before(self, held: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put them before the keys of a window; empty slots take no part."""
        if self.there is None:
            return held
        side, rest = dict(self.side), dict(held)
        keys = self.side["key"].shape[0], 1
        for each in (side, rest):
            if "key_bias" not in each:
                each["key_bias"] = each["key"].new_zeros(
                    *keys, each["key"].shape[2], dtype=torch.float32
                )
        side["key_bias"] = side["key_bias"].masked_fill(~self.there.unsqueeze(1), float("-inf"))
        return _side_by_side(side, rest)

    def reorder(self, index: Int[Tensor, "rows"]) -> FirstKeys:
        """Go on with the rows ``index`` of the batch."""
        if self.there is None:
            return self
        side = {
            name: x if x.shape[0] == 1 and len(self.there) > 1 else x.index_select(0, index)
            for name, x in self.side.items()
        }
        return FirstKeys(self.count, side, self.there.index_select(0, index))


def _side_by_side(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, Tensor]:
    """Join what belongs to keys, by name, along the sequence."""
    both = {}
    for name, x in before.items():
        y = after[name]
        shape = torch.broadcast_shapes(x.shape[:2], y.shape[:2])
        both[name] = torch.cat([z.expand(*shape, *z.shape[2:]) for z in (x, y)], dim=2)
    return both


def _ranks(lift: Lift) -> tuple[Tensor, Tensor, Tensor]:
    """Of each key (batch or 1, key): whether it takes part, how many of its document that do come
    before it, and the number of its document in the row."""
    bias, keys, device = lift.key_bias, lift.key.shape[2], lift.key.device
    real = torch.ones(1, keys, dtype=torch.bool, device=device)
    if bias is not None:
        real = take_part(bias)
    count = real.long().cumsum(-1)
    before = count - real.long()
    if lift.documents is None:
        return real, before, torch.zeros_like(before)
    label = lift.documents.key
    real, before = (x.expand(max(len(x), len(label)), -1) for x in (real, before))
    label = label.expand(len(real), -1)
    begins = torch.cat([torch.ones_like(label[:, :1]), label.diff(dim=1)], dim=1) != 0
    run = begins.long().cumsum(-1) - 1
    _check_runs(label, run)
    position = torch.arange(keys, device=device)
    start = torch.where(begins, position, 0).cummax(-1).values
    return real, before - before.gather(1, start), run


def _check_runs(label: Tensor, run: Tensor) -> None:
    """Raise ``ValueError`` for a label that recurs; not in compiled graphs, which cannot ask."""
    if torch.compiler.is_compiling():
        return
    labels = (label.sort(-1).values.diff(dim=-1) != 0).sum(-1)
    if (labels != run[:, -1]).any():
        raise ValueError(
            "the first keys of a document stay visible, so a document is one stretch of its row, "
            "but a label recurs after another; number the stretches"
        )
