"""Linear attention: the baseline whose memory does not grow, and which is no softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Turn = Callable[[Tensor], Tensor]  # features by their positions, lengths kept
CHUNK = 64  # queries and keys that meet one by one; earlier keys are met as sums


@dataclass(frozen=True)
class LinearState:
    """Sums over keys so far: ``product`` of (turned) ``phi(k) v^T``, ``total`` of ``phi(k)``."""

    product: Float[Tensor, "batch head dim value_dim"]
    total: Float[Tensor, "batch head dim"]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(x.numel() * x.element_size() for x in (self.product, self.total))

    def reorder(self, index: Int[Tensor, "rows"]) -> LinearState:
        """The rows ``index`` of the batch."""
        return LinearState(self.product.index_select(0, index), self.total.index_select(0, index))


def linear_features(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """``phi(x) = elu(x) + 1``, above 0; in float32 or better."""
    return F.elu(x.to(torch.promote_types(x.dtype, torch.float32))) + 1.0


def linear_attention(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch head key dim"],
    value: Float[Tensor, "batch head key value_dim"],
    *,
    causal: bool = False,
    real: Bool[Tensor, "batch key"] | None = None,
    key_bias: Float[Tensor, "batch key"] | None = None,
    state: LinearState | None = None,
    turn: tuple[Turn, Turn] | None = None,
) -> tuple[Float[Tensor, "batch head query value_dim"], LinearState]:
    """``out_i = phi(q_i) S / (phi(q_i) z)`` with ``S = sum_j phi(k_j) v_j^T, z = sum_j phi(k_j)``.

    Sums over all keys, or with ``causal`` over keys up to the query's own (as many queries as
    keys). ``real`` (True = takes part) hides keys, ``key_bias`` in nats multiplies ``phi(k_j)`` by
    its exponential, ``state`` are the sums of keys before these
    (with ``causal``). Time is linear, memory beyond the inputs (dim x value_dim) per 64 keys.
    Returns the output in ``value``'s dtype, 0 where a query sees nothing, and the sums after the
    last key.

    ``turn`` rotates the features of queries and of keys by their positions, in the numerator alone:
    ``out_i = sum_j <R_i phi(q_i), R_j phi(k_j)> v_j / sum_j <phi(q_i), phi(k_j)>``, which depends
    on differences of positions only. Weights may then be negative.

    Raises ``ValueError`` when causal lengths differ, and for a state that is not causal.

    Source: Katharopoulos et al. (arXiv 2006.16236), equations 6 and 9 to 12; turned: Su et al.,
    RoFormer (arXiv 2104.09864), equation 19.
    """
    if causal and query.shape[2] != key.shape[2]:
        raise ValueError(
            "causal linear attention takes as many queries as keys, but there are "
            f"{query.shape[2]} and {key.shape[2]}; give the sums of earlier keys as state"
        )
    if state is not None and not causal:
        raise ValueError("state holds the sums of earlier keys, for causal=True alone")
    query_features, key_features = linear_features(query), linear_features(key)
    if real is not None:
        key_features = key_features * real[:, None, :, None]
        value = value.masked_fill(~real[:, None, :, None], 0.0)
    if key_bias is not None:
        key_features = key_features * key_bias.exp()[:, None, :, None]
    wide = value.to(key_features.dtype)
    turned = _turned(query_features, key_features, turn)
    if not causal:
        product, total = turned[1].transpose(-2, -1) @ wide, key_features.sum(2)
        ended = LinearState(product, total)
        output = _divided(turned[0] @ product, query_features @ total.unsqueeze(-1))
        return output.to(value.dtype), ended
    pieces, features = [], (query_features, key_features, *turned, wide)
    # An exported program must not ask how many pieces there are.
    parts = [[x] if torch.compiler.is_exporting() else x.split(CHUNK, 2) for x in features]
    for q, k, q_turned, k_turned, v in zip(*parts, strict=True):
        scores = (q_turned @ k_turned.transpose(-2, -1)).tril()
        top, bottom = scores @ v, scores.sum(-1, keepdim=True)
        if turn is not None:
            bottom = (q @ k.transpose(-2, -1)).tril().sum(-1, keepdim=True)
        if state is not None:
            top, bottom = top + q_turned @ state.product, bottom + q @ state.total.unsqueeze(-1)
        pieces.append(_divided(top, bottom))
        product, total = k_turned.transpose(-2, -1) @ v, k.sum(2)
        if state is not None:
            product, total = product + state.product, total + state.total
        state = LinearState(product, total)
    assert state is not None
    return torch.cat(pieces, dim=2).to(value.dtype), state


def linear_weights(
    query: Float[Tensor, "batch head query dim"],
    key: Float[Tensor, "batch head key dim"],
    *,
    causal: bool = False,
    real: Bool[Tensor, "batch key"] | None = None,
    key_bias: Float[Tensor, "batch key"] | None = None,
    turn: tuple[Turn, Turn] | None = None,
) -> Float[Tensor, "batch head query key"]:
    """``phi(q_i) phi(k_j) / sum_j phi(q_i) phi(k_j)``, materialized for looking; ``turn`` as there.

    Bottom-right when causal. Source: Katharopoulos et al. (arXiv 2006.16236), equation 4.
    """
    features = linear_features(query), linear_features(key)
    turned = _turned(*features, turn)

    def scores(q: Tensor, k: Tensor) -> Tensor:
        found = q @ k.transpose(-2, -1)
        found = found.tril(key.shape[2] - query.shape[2]) if causal else found
        found = found if key_bias is None else found * key_bias.exp()[:, None, None, :]
        return found if real is None else found * real[:, None, None, :]

    return _divided(scores(*turned), scores(*features).sum(-1, keepdim=True))


def _turned(query: Tensor, key: Tensor, turn: tuple[Turn, Turn] | None) -> tuple[Tensor, Tensor]:
    return (query, key) if turn is None else (turn[0](query), turn[1](key))


def _divided(top: Tensor, bottom: Tensor) -> Tensor:
    """``top / bottom``, 0 where nothing was seen."""
    blind = bottom == 0
    return (top / bottom.masked_fill(blind, 1.0)).masked_fill(blind, 0.0)
