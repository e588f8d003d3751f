"""How a Gaussian pair is cut: blocks of queries near one origin, and the keys in their reach."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import Any

import torch
from torch import Tensor

from ..lift import Lift
from ..pair import Gaussian

# A Gaussian is lifted in blocks of queries this long at most, and no further than this many of its
# standard deviations to either side of the middle; blocks smaller than the least are not worth a
# call of the kernel, and the difference is formed directly.
LONGEST_BLOCK = 64
SHORTEST_BLOCK = 8
# Among so many keys even shorter blocks pay, if each meets only those in its reach.
MANY_KEYS = 1024
SHORTEST_AMONG_MANY = 2
REACH = 4.0
# A key this many nats (and the range of all other parts of the logits) behind the best visible key
# of the same query has a weight below rounding, and is dropped.
NEGLIGIBLE = {torch.float32: 32.0, torch.float64: 64.0}
# So far behind a weight is exactly 0. Causal attention drops no other keys, and begins where the
# kernel's blocks of keys do: what reach a later query has then changes no bit of an earlier one.
VANISHED = {torch.float32: 110.0, torch.float64: 760.0}
KERNEL_BLOCK = 512  # keys that the fused kernel takes at a time on the CPU
LONG_PAST = 2048  # of a shorter past all is met: what is out of reach would be few keys


def gaussian_blocks(pair: Gaussian, shortest: int = SHORTEST_BLOCK) -> list[int] | None:
    """Where blocks of queries begin and the last one ends; None for none.

    There are none where the Gaussian is too narrow (blocks would be shorter than ``shortest`` on
    average) or to be formed directly, and in a compiled graph, which cannot ask how narrow it is.
    """
    if pair.direct or torch.compiler.is_compiling():
        return None
    count = pair.query.shape[-1]
    with torch.no_grad():
        sharp = pair.precision.sqrt()
        if sharp.shape[-1] > 1:
            sharp = torch.maximum(sharp[..., 1:], sharp[..., :-1])
        steps = (pair.query.diff(dim=-1).abs() * sharp).flatten(0, -2).amax(0)
        way = [0.0, *steps.double().cumsum(0).tolist()]  # standard deviations passed, at most
    bounds = [0]
    while bounds[-1] < count:
        start = bounds[-1]
        far = bisect.bisect_right(way, way[start] + 2 * REACH, lo=start)
        bounds.append(min(max(far, start + 1), start + LONGEST_BLOCK, count))
    blocks = len(bounds) - 1
    return bounds if blocks == 1 or count / blocks >= shortest else None


@torch.no_grad()
def keys_in_reach(lift: Lift, bounds: list[int], *, causal: bool = False) -> list[tuple[int, int]]:
    """Find the keys that each block of queries cannot do without, by the rule at ``NEGLIGIBLE``.

    All of them where the centers of keys are in no order. Every key with a finite bias counts as
    visible (``causal``: up to the query's own, aligned at the last), so this is for attention
    without further masks. ``causal`` goes by the rule at ``VANISHED``.
    """
    pair, keys = lift.pair, lift.key.shape[2]
    assert isinstance(pair, Gaussian)
    if (pair.key.diff(dim=-1) < 0).any():
        return [(0, keys)] * (len(bounds) - 1)
    bias = lift.key_bias if lift.key_bias is not None else pair.key.new_zeros(1, 1, keys)
    groups = lift.groups
    center, bias = (
        x.repeat_interleave(groups, dim=1) if x.shape[1] > 1 else x for x in (pair.key, bias)
    )
    shape = torch.broadcast_shapes(
        *(x.shape[:2] for x in (pair.query, pair.precision, center, bias))
    )
    query, center, bias = (
        x.expand(*shape, x.shape[-1]).contiguous() for x in (pair.query, center, bias)
    )
    visible = bias != -math.inf  # what is not a number is seen, and comes out
    others = _range(bias, visible).to(query.dtype)
    if lift.query.shape[3]:
        norms = (x.float().norm(dim=-1).amax() for x in (lift.query, lift.key))
        others = others + 2 * math.prod(norms)
    wide = torch.promote_types(lift.query.dtype, torch.float32)
    nats = (VANISHED if causal else NEGLIGIBLE)[wide]
    near = _latest(query, center, visible) if causal else _nearest(query, center, visible)
    radius = (near.square() + 2 * (nats + others) / pair.precision).sqrt()
    if not radius.isfinite().all():  # not-a-number must come out, not be cut away
        return [(0, keys)] * (len(bounds) - 1)
    first = torch.searchsorted(center, query - radius).flatten(0, 1).amin(0).tolist()
    last = torch.searchsorted(center, query + radius, right=True).flatten(0, 1).amax(0).tolist()
    spans = [(min(first[a:b]), max(last[a:b])) for a, b in itertools.pairwise(bounds)]
    if causal:
        spans = [(low - low % KERNEL_BLOCK, high) for low, high in spans]
    return spans


def _range(bias: Tensor, visible: Tensor) -> Tensor:
    """Largest minus smallest finite bias, (batch, head, 1); 0 where there is none."""
    high = bias.masked_fill(~visible, -math.inf).amax(-1, keepdim=True)
    low = bias.masked_fill(~visible, math.inf).amin(-1, keepdim=True)
    return (high - low).clamp(min=0.0)


def _nearest(query: Tensor, center: Tensor, visible: Tensor) -> Tensor:
    """Distance to the nearest visible key, 0 where there is none. ``center`` is nondecreasing."""
    below = center.masked_fill(~visible, -math.inf).cummax(-1).values
    above = center.masked_fill(~visible, math.inf).flip(-1).cummin(-1).values.flip(-1)
    before = torch.searchsorted(below, query, right=True) - 1
    after = torch.searchsorted(above, query)
    keys = center.shape[-1]
    down = query - below.gather(-1, before.clamp(min=0))
    up = above.gather(-1, after.clamp(max=keys - 1)) - query
    down = down.masked_fill(before < 0, math.inf)
    up = up.masked_fill(after >= keys, math.inf)
    near = torch.minimum(down, up)
    return near.masked_fill(near.isinf(), 0.0)


def _latest(query: Tensor, center: Tensor, visible: Tensor) -> Tensor:
    """Measure the distance to the last visible key up to each query's own, 0 where there is none.

    ``center`` is nondecreasing. A query that sees no key is blind, and needs none in its reach.
    """
    queries, keys = query.shape[-1], center.shape[-1]
    below = center.masked_fill(~visible, -math.inf).cummax(-1).values
    own = torch.arange(queries, device=query.device) + (keys - queries)
    index = own.clamp(min=0).expand_as(query)
    seen = below.gather(-1, index)
    near = (query - seen).abs()
    return near.masked_fill((own < 0) | (seen == -math.inf), 0.0)


def cut_keys(lift: Lift, spans: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
    """The key side of the lift over each span, in time and memory of what is cut out."""
    sides = {name: _Spans.apply(x, spans) for name, x in lift.key_side().items()}
    return [{name: parts[i] for name, parts in sides.items()} for i in range(len(spans))]


class _Spans(torch.autograd.Function):
    """Overlapping slices of axis 2 whose gradients are added up in one buffer.

    Slices by themselves would each have a gradient as long as the whole sequence.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, spans: list[tuple[int, int]]) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.spans, ctx.like = spans, (x.shape, x.dtype, x.device)
        return tuple(x[:, :, start:stop].clone() for start, stop in spans)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor, None]:
        shape, dtype, device = ctx.like
        total = torch.zeros(shape, dtype=dtype, device=device)
        for (start, stop), gradient in zip(ctx.spans, gradients, strict=True):
            if gradient is not None:
                total[:, :, start:stop] += gradient
        return total, None
