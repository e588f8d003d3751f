"""Which path computes what. The only entrance to attention in this library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..lift import Lift
from ..mask import split_mask
from ..neighborhood import Causal, Full, Grid, Neighborhood, check_sizes, check_top_k, reach
from .banded import banded_attention
from .chunked import chunked_attention
from .first import compacted, first_of
from .fused import fused_attention
from .gathered import gathered_attention
from .materialized import materialized_attention, materialized_weights

Path = Literal["fused", "banded", "gathered", "chunked", "materialized"]
AUTOMATIC: tuple[Path, ...] = ("fused", "banded", "gathered", "chunked")
PATHS: tuple[Path, ...] = (*AUTOMATIC, "materialized")

_recorded: list[str] | None = None


@dataclass(frozen=True)
class Case:
    """What the choice of a path depends on. ``mask`` is what padding alone cannot express."""

    queries: int
    keys: int
    neighborhood: Neighborhood
    top_k: int | None = None
    dropout: bool = False
    mask: Literal["none", "constant", "learned"] = "none"
    pair: bool = False
    documents: bool = False


def why_not(path: Path, case: Case) -> str | None:
    """Why a path cannot compute a case, or None if it can."""
    windowed = reach(case.neighborhood)[0] is not None
    if path == "fused":
        reasons = (
            (case.top_k is not None, "the fused kernel cannot select the top k"),
            (case.dropout, "the fused kernel has no dropout"),
            (case.mask == "learned", "the fused kernel gives masks no gradient"),
            (case.pair, "a Gaussian is lifted block by block"),
            (case.documents, "documents are masked block by block"),
            (windowed, "the fused kernel has no windows"),
            (case.neighborhood == Causal(own=False), "the fused kernel leaves out nobody"),
            (isinstance(case.neighborhood, Grid), "the fused kernel has no grids"),
            (
                isinstance(case.neighborhood, Causal) and case.queries < case.keys,
                "the fused kernel aligns causality at the first key, not at the last",
            ),
        )
        return next((why for holds, why in reasons if holds), None)
    if path in ("banded", "gathered"):
        if path == "banded" and not windowed:
            return "only a window or a band has bands"
        if path == "gathered" and not isinstance(case.neighborhood, Grid):
            return "only a grid is gathered"
        if case.mask != "none":
            parts = "bands" if path == "banded" else "tiles"
            return f"a mask over (query, key) is not cut into {parts}"
        if case.pair:
            return "a Gaussian is lifted block by block"
        if case.documents:
            return "documents are masked block by block"
    return None


def choose_path(case: Case) -> Path:
    """The first of fused, banded, gathered, chunked that can compute the case.

    In an exported program fused, else materialized: bands and blocks are cut for one length.
    """
    if torch.compiler.is_exporting():
        return "fused" if why_not("fused", case) is None else "materialized"
    return next(path for path in AUTOMATIC if why_not(path, case) is None)


def attend(
    lift: Lift,
    neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen: nothing to share by accident)
    *,
    top_k: int | None = None,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    path: Path | Literal["auto"] = "auto",
) -> Tensor:
    """Softmax attention over a lift: ``sum_j softmax_j(<query_i, key_j> + key_bias_j) value_j``.

    A pair adds its Gaussian to the logits, documents hide keys, a sink adds ``exp(sink_i)`` to the
    denominator (see ``Lift``).

    The keys of query i are those in ``neighborhood``, allowed by ``attn_mask`` and with a finite
    bias; of these, with ``top_k``, the ones whose logit is among the k largest (ties kept, see
    ``hidden_by_rank``). A query without keys gives zeros. Returns (batch, head, query, value_dim)
    in the dtype of ``lift.value``.

    ``attn_mask`` has SDPA's polarity (boolean True = takes part; float is added, in nats) and
    broadcasts to (batch, head, query, key); values at or below ``finfo.min / 2`` mean blocked.
    ``dropout_p`` drops weights whenever it is above 0. ``path`` demands one path; "auto" never
    holds a (query, key) matrix where a linear path exists.

    Raises ``ValueError`` when a size, a number or the demanded path does not fit.

    Differs from `torch.nn.functional.scaled_dot_product_attention`: causality is bottom-right,
    grouped queries need no switch, and scores are not scaled (the lift holds the scale).
    """
    _check_numbers(top_k, dropout_p, path)
    lift, neighborhood, attn_mask = _others(lift, neighborhood, attn_mask)
    lift, mask = split_mask(lift, attn_mask, neighborhood)
    dtype = lift.value.dtype
    lift = _one_dtype(lift)
    check_sizes(neighborhood, lift.query.shape[2], lift.key.shape[2])
    if 0 in lift.query.shape[:3] or lift.key.shape[2] == 0:
        return _zeros(lift, mask).to(dtype)
    lift, mask, case = _simplify(lift, neighborhood, mask, top_k=top_k, dropout_p=dropout_p)
    chosen = _demanded(path, case)
    if _recorded is not None:
        _recorded.append(chosen)
    options = {"top_k": case.top_k, "dropout_p": dropout_p}
    # Autocast would round lifted features, among them biases, inside the kernel.
    with torch.autocast(lift.query.device.type, enabled=False):
        if chosen == "fused":
            output = fused_attention(lift, case.neighborhood, mask)
        elif chosen == "banded":
            output = banded_attention(lift, case.neighborhood, **options)
        elif chosen == "gathered":
            output = gathered_attention(lift, case.neighborhood, **options)
        elif chosen == "chunked":
            output = chunked_attention(lift, case.neighborhood, mask, **options)
        else:
            output = materialized_attention(lift, case.neighborhood, mask, **options)
    return output.to(dtype)


def attention_weights(
    lift: Lift,
    neighborhood: Neighborhood = Full(),  # noqa: B008
    *,
    top_k: int | None = None,
    attn_mask: Tensor | None = None,
) -> Tensor:
    """The weights of ``attend``, materialized for looking: (batch, head, query, key).

    Float32 or better; rows sum to 1 (with a sink to less), or to 0 where a query sees nothing. Same
    arguments, masks and errors as ``attend``.
    """
    _check_numbers(top_k, 0.0, "materialized")
    check_sizes(neighborhood, lift.query.shape[2], lift.key.shape[2])
    keys = lift.key.shape[2]
    lift, neighborhood, attn_mask = _others(lift, neighborhood, attn_mask)
    if 0 in lift.query.shape[:3] or lift.key.shape[2] == 0:
        wide = torch.promote_types(lift.query.dtype, torch.float32)
        return lift.query.new_zeros(*lift.query.shape[:3], keys, dtype=wide)
    lift, mask = split_mask(lift, attn_mask, neighborhood)
    with torch.autocast(lift.query.device.type, enabled=False):
        weights = materialized_weights(_one_dtype(lift), neighborhood, mask, top_k)
    return F.pad(weights, (0, keys - weights.shape[-1]))  # oneself, where that is left out


@contextmanager
def record_paths() -> Iterator[list[str]]:
    """Collect the path of every call of ``attend`` inside the block (for tests)."""
    global _recorded
    outer, _recorded = _recorded, []
    try:
        yield _recorded
    finally:
        _recorded = outer


def _check_numbers(top_k: int | None, dropout_p: float, path: str) -> None:
    check_top_k(top_k)
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"dropout_p is a probability in [0, 1); it is {dropout_p}")
    if path != "auto" and path not in PATHS:
        raise ValueError(f"path is 'auto' or one of {', '.join(PATHS)}; it is {path!r}")


def _others(
    lift: Lift, neighborhood: Neighborhood, mask: Tensor | None
) -> tuple[Lift, Neighborhood, Tensor | None]:
    """Leave oneself out where a causal neighborhood does: plain causality without the last key.

    The corner is the last query at the last key, so one key fewer moves every query's own key ahead
    of it. Every path computes that already; on the fused one a sink takes the place of the key.
    """
    if not isinstance(neighborhood, Causal) or neighborhood.own or torch.compiler.is_exporting():
        return lift, neighborhood, mask  # an exported program must not ask whether a key is left
    if mask is not None and mask.shape[-1] == lift.key.shape[2]:
        mask = mask[..., :-1]
    return lift.keys(0, -1), neighborhood.others(), mask


def _zeros(lift: Lift, mask: Tensor | None) -> Tensor:
    """Make the output where there is nothing to attend with or to, still part of the graph.

    Everything that a gradient may be taken to gets one, of zeros.
    """
    # Sums of no elements: 0 times a number might be 0 times infinity.
    given = (x for x in (*lift.tensors(), mask) if x is not None and x.is_floating_point())
    nothing = sum(x.reshape(-1)[:0].sum() for x in given)
    return lift.value.new_zeros(()).add(nothing).expand(*lift.query.shape[:3], lift.value.shape[3])


def _one_dtype(lift: Lift) -> Lift:
    dtypes = {lift.query.dtype, lift.key.dtype, lift.value.dtype}
    if len(dtypes) == 1:
        return lift
    widest = torch.promote_types(
        torch.promote_types(lift.query.dtype, lift.key.dtype), lift.value.dtype
    )
    return replace(
        lift, query=lift.query.to(widest), key=lift.key.to(widest), value=lift.value.to(widest)
    )


def _simplify(
    lift: Lift,
    neighborhood: Neighborhood,
    mask: Tensor | None,
    *,
    top_k: int | None,
    dropout_p: float,
) -> tuple[Lift, Tensor | None, Case]:
    """Drop keys no query can reach and limits that limit nothing.

    Nothing is dropped in an exported program, which must not ask how long a sequence is.
    """
    queries, keys = lift.query.shape[2], lift.key.shape[2]
    kind = "none" if mask is None else "learned" if mask.requires_grad else "constant"
    features = {"pair": lift.pair is not None, "documents": lift.documents is not None}
    if torch.compiler.is_exporting():
        lift = lift.ungrouped() if lift.groups > 1 else lift
        case = Case(queries, keys, neighborhood, top_k, dropout_p > 0.0, kind, **features)
        return lift, mask, case
    (back, ahead), first = reach(neighborhood), first_of(neighborhood)
    if back is not None and keys - queries > back:
        start = keys - queries - back
        if first:
            lift, mask = compacted(lift, mask, first, start)
        else:
            lift = lift.keys(start, keys)
            mask = mask if mask is None or mask.shape[3] == 1 else mask[..., start:]
        keys = lift.key.shape[2]
        if queries == 1 and ahead == 0:  # all that is left is seen
            back = keys
    if back is not None and back >= max(queries, keys) - 1:
        neighborhood = Causal() if ahead == 0 else Full()
    if isinstance(neighborhood, Causal) and neighborhood.window is None and queries == 1:
        neighborhood = Full()
    if isinstance(neighborhood, Grid) and neighborhood.sees_all:
        neighborhood = Full()
    back, ahead = reach(neighborhood)
    most = keys if back is None or ahead is None else min(keys, back + 1 + ahead + first)
    if top_k is not None and top_k >= most:
        top_k = None
    case = Case(queries, keys, neighborhood, top_k, dropout_p > 0.0, kind, **features)
    return lift, mask, case


def _demanded(path: str, case: Case) -> Path:
    if path == "auto":
        return choose_path(case)
    chosen: Path = path  # type: ignore[assignment]
    why = why_not(chosen, case)
    if why is not None:
        raise ValueError(
            f"path={path!r} cannot compute this attention: {why}; "
            f"path='auto' would take {choose_path(case)!r}"
        )
    return chosen
