"""Windows: blocks of queries against the band of keys they can see. Linear in the length."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..lift import Lift
from ..neighborhood import Neighborhood, reach, visible
from .first import at, first_before, first_of, joined
from .kernel import block_attention

# Blocks of half the reach see 1.5 windows of keys a query instead of 2; below 32 queries the
# kernel's own overhead costs more than the keys it saves.
SMALLEST_BLOCK = 32
# Numbers in the largest tensor of a segment: 16 MiB in float32. Larger ones are mapped anew by the
# system at every step, which at length 16,384 costs more than the arithmetic.
SEGMENT_SIZE = 2**22


@dataclass(frozen=True)
class _Geometry:
    """Blocks of ``block`` queries; block n sees the blocks n - before .. n + after of keys."""

    block: int
    before: int
    after: int
    count: int
    queries: int
    keys: int

    def span(self, first: int, stop: int) -> tuple[int, int]:
        """The keys that the blocks ``first:stop`` can see; may leave the sequence."""
        offset = self.keys - self.queries
        return (
            offset + (first - self.before) * self.block,
            offset + (stop + self.after) * self.block,
        )


def _geometry(neighborhood: Neighborhood, queries: int, keys: int) -> _Geometry:
    back, ahead = reach(neighborhood)
    if back is None or ahead is None:
        raise AssertionError("a band has two ends")
    half = -(-max(back, ahead) // 2)
    block = min(max(half, SMALLEST_BLOCK), queries)
    before, after, count = (-(-length // block) for length in (back, ahead, queries))
    return _Geometry(block, before, after, count, queries, keys)


def banded_attention(
    lift: Lift,
    neighborhood: Neighborhood,
    *,
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attention inside a window or band; top-k and dropout act inside the band.

    Each block of b queries meets ``before + 1 + after`` blocks of b keys, built by concatenating
    shifted views, so that memory and time are (batch, head, query, window). Long sequences go
    segment by segment. The first keys of ``Causal(window, first=N)`` are N more of every block.
    """
    batch, heads, _, dim = lift.query.shape
    shape = _geometry(neighborhood, lift.query.shape[2], lift.key.shape[2])
    options: dict[str, Any] = {"top_k": top_k, "dropout_p": dropout_p}
    if first_of(neighborhood):
        options["stay"] = _staying(lift, first_of(neighborhood))
    band = (shape.before + 1 + shape.after) * shape.block
    per_block = batch * heads * max(dim, band) * shape.block
    step = max(1, shape.before + shape.after, SEGMENT_SIZE // per_block)
    if step >= shape.count:
        return _segment(_whole(lift, shape), neighborhood, shape, 0, **options)
    firsts = range(0, shape.count, step)
    outputs = [
        _segment(part, neighborhood, shape, first, **options)
        for first, part in zip(firsts, cut(lift, shape, step), strict=True)
    ]
    return torch.cat(outputs, dim=2)


def _whole(lift: Lift, shape: _Geometry) -> Lift:
    """The lift with its keys padded to what the blocks can see."""
    span = shape.span(0, shape.count)
    key, value = (_slice_padded(x, *span) for x in (lift.key, lift.value))
    columns = _bias_columns(lift)
    bias = None if columns is None else _slice_padded(columns, *span).squeeze(-1)
    return Lift(lift.query, key, value, bias, sink=lift.sink)


def cut(lift: Lift, shape: _Geometry, step: int) -> list[Lift]:
    """The lift in segments of ``step`` blocks, each with the keys that it can see."""
    spans = [
        shape.span(first, min(first + step, shape.count)) for first in range(0, shape.count, step)
    ]
    columns = _bias_columns(lift)
    biases: list[Tensor | None] = [None] * len(spans)
    if columns is not None:
        biases = [column.squeeze(-1) for column in _overlapping(columns, spans)]
    sinks: list[Tensor | None] = [None] * len(spans)
    if lift.sink is not None:
        sinks = [*lift.sink.expand(*lift.query.shape[:3]).split(step * shape.block, dim=2)]
    return [
        Lift(query, key, value, bias, sink=sink)
        for query, key, value, bias, sink in zip(
            lift.query.split(step * shape.block, dim=2),
            _overlapping(lift.key, spans),
            _overlapping(lift.value, spans),
            biases,
            sinks,
            strict=True,
        )
    ]


def _bias_columns(lift: Lift) -> Tensor | None:
    """The key bias as (batch, key_head, key, 1)."""
    if lift.key_bias is None:
        return None
    return lift.key_bias.expand(*lift.key.shape[:3]).unsqueeze(-1)


def _segment(
    part: Lift,
    neighborhood: Neighborhood,
    shape: _Geometry,
    first: int,
    *,
    top_k: int | None,
    dropout_p: float,
    stay: _Staying | None = None,
) -> Tensor:
    """Attention of the blocks from ``first`` on; keys begin at the first one they can see."""
    groups, query = part.groups, part.query
    count = -(-query.shape[2] // shape.block)

    def band(tensor: Tensor) -> Tensor:
        """(batch, key_head, key, dim) -> (batch * key_head, block, band, dim)."""
        blocks = tensor.unflatten(2, (-1, shape.block))
        width = shape.before + 1 + shape.after
        shifted = [blocks[:, :, shift : shift + count] for shift in range(width)]
        return torch.cat(shifted, dim=3).flatten(0, 1)

    folded = Lift(
        _fold(query, groups, shape.block, count),
        band(part.key),
        band(part.value),
        None if part.key_bias is None else band(part.key_bias.unsqueeze(-1)).squeeze(-1),
        sink=None if part.sink is None else _fold_sink(part, shape.block, count),
    )
    blocks = range(first, first + count)
    allowed = _allowed(neighborhood, shape, blocks, query.device).unsqueeze(0)
    if stay is not None:
        folded = joined(stay.folded(count), folded)
        outside = stay.outside(neighborhood, shape, blocks)
        allowed = torch.cat([outside, allowed.expand(len(outside), -1, -1, -1)], dim=-1)
        if len(allowed) > 1:
            allowed = allowed.repeat_interleave(part.key.shape[1], dim=0)
    if groups > 1:
        allowed = allowed.repeat(1, 1, groups, 1)
    output = block_attention(folded, allowed, top_k=top_k, dropout_p=dropout_p)
    batch, heads, queries, _ = query.shape
    split = output.unflatten(2, (groups, shape.block)).transpose(1, 2)
    return split.reshape(batch, heads, count * shape.block, -1)[:, :, :queries]


@dataclass(frozen=True)
class _Staying:
    """The first keys of every row, which stay visible, and where they stand."""

    keys: Lift
    index: Tensor  # (batch or 1, slot)

    def folded(self, count: int) -> Lift:
        """The keys for each of ``count`` blocks, of no queries."""

        def each(tensor: Tensor) -> Tensor:
            """(batch, key_head, slot, dim) -> (batch * key_head, block, slot, dim)."""
            return tensor.flatten(0, 1).unsqueeze(1).expand(-1, count, -1, -1)

        lift, bias = self.keys, _bias_columns(self.keys)
        assert bias is not None
        key, value = each(lift.key), each(lift.value)
        return Lift(key[:, :, :0], key, value, each(bias).squeeze(-1))

    def outside(self, neighborhood: Neighborhood, shape: _Geometry, blocks: range) -> Tensor:
        """(batch or 1, block, query, slot): whether they stand before each query's window."""
        back, _ = reach(neighborhood)
        assert back is not None
        place = torch.arange(blocks.start * shape.block, blocks.stop * shape.block)
        place = place.to(self.index.device) + shape.keys - shape.queries
        outside = self.index.unsqueeze(1) < place.unsqueeze(-1) - back
        return outside.unflatten(1, (-1, shape.block))


def _staying(lift: Lift, count: int) -> _Staying:
    index, there = (x[:, 0] for x in first_before(lift, count, [lift.key.shape[2]]))
    return _Staying(at(lift, index, there), index)


def _overlapping(tensor: Tensor, spans: list[tuple[int, int]]) -> list[Tensor]:
    """``tensor[:, :, start:stop]`` for overlapping spans, zeros where they leave the tensor.

    Cut once into pieces that the spans share: the gradient of a slice is a zero tensor as long as
    the whole sequence, that of a piece is the piece.
    """
    length = tensor.shape[2]
    inside = [(max(start, 0), max(min(stop, length), 0)) for start, stop in spans]
    cuts = sorted({0, length, *(cut for pair in inside for cut in pair)})
    sizes = [high - low for low, high in itertools.pairwise(cuts)]
    pieces = dict(zip(cuts, tensor.split(sizes, dim=2), strict=False))
    parts = []
    for (start, stop), (low, high) in zip(spans, inside, strict=True):
        shared = [pieces[cut] for cut in cuts[:-1] if low <= cut < high]
        before = min(low, stop) - start
        parts.append(_pad(shared, before, stop - start - before - (high - low), like=tensor))
    return parts


def _slice_padded(tensor: Tensor, start: int, stop: int) -> Tensor:
    """``tensor[:, :, start:stop]`` with zeros where the range leaves the tensor."""
    length = tensor.shape[2]
    low, high = max(start, 0), min(stop, length)
    return _pad([tensor[:, :, low:high]], low - start, stop - high, like=tensor)


def _pad(pieces: list[Tensor], before: int, after: int, *, like: Tensor) -> Tensor:
    """Pieces joined along the sequence, with zeros before and after.

    By concatenation: `F.pad` by nothing keeps the strides of its input, which compiled graphs with
    free sizes take for contiguous.
    """
    batch, heads, _, dim = like.shape
    head = [like.new_zeros(batch, heads, before, dim)] if before else []
    tail = [like.new_zeros(batch, heads, after, dim)] if after else []
    joined = [*head, *pieces, *tail]
    return joined[0] if len(joined) == 1 else torch.cat(joined, dim=2)


def _fold(query: Tensor, groups: int, block: int, count: int) -> Tensor:
    """Queries as (batch * key_head, block, group * query, dim)."""
    batch, heads, queries, dim = query.shape
    padded = _pad([query], 0, count * block - queries, like=query)
    shape = (batch * (heads // groups), groups, count, block, dim)
    return padded.reshape(shape).transpose(1, 2).flatten(2, 3)


def _fold_sink(part: Lift, block: int, count: int) -> Tensor:
    assert part.sink is not None
    each = part.sink.expand(*part.query.shape[:3]).unsqueeze(-1)
    return _fold(each, part.groups, block, count).squeeze(-1)


def _allowed(
    neighborhood: Neighborhood,
    shape: _Geometry,
    blocks: range,
    device: torch.device,
) -> Tensor:
    """(block, query, band): inside the neighbourhood, and a key that exists."""
    block = shape.block
    inside = torch.arange(block, device=device)
    along = torch.arange(-shape.before * block, (shape.after + 1) * block, device=device)
    seen = visible(neighborhood, inside, along)
    assert seen is not None
    start = (
        shape.keys - shape.queries + block * torch.arange(blocks.start, blocks.stop, device=device)
    )
    position = start.unsqueeze(-1) + along
    exists = (position >= 0) & (position < shape.keys)
    return seen.unsqueeze(0) & exists.unsqueeze(1)
