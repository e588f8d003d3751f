"""Linear attention as a module: a baseline for what softmax over a window is worth."""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..functional.linear import linear_attention, linear_weights
from ..functional.mask import as_bias, real_keys
from ..functional.neighborhood import Causal, Full, Neighborhood
from .cache import LinearCache
from .core import AttentionCore, check_rows, check_widths
from .energy import EnergyGate
from .parameter import start_projections
from .position import HeadPosition


class LinearAttention(AttentionCore):
    """Multi-head linear attention: ``phi(q) (sum phi(k) v^T) / (phi(q) sum phi(k))``.

    Over everything, or causally. Words are those of ``Attention``; masks have MultiheadAttention's
    polarity (boolean True = padding). A ``position`` turns the features phi in the numerator. A sum
    has no keys to choose among: windows, grids, top-k, gates, positions that add to logits
    (``RelativeMorletPosition``), ``attn_mask``, dropout of weights and documents are refused.

    Raises ``ValueError`` for those. Source: see ``functional.linear_attention``.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        num_key_value_heads: int | None = None,
        neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
        cross_neighborhood: Neighborhood | None = None,
        top_k: int | None = None,
        position: HeadPosition | None = None,
        gate: EnergyGate | None = None,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            num_key_value_heads=num_key_value_heads,
            dropout=dropout,
            neighborhood=neighborhood,
            cross_neighborhood=cross_neighborhood,
            top_k=top_k,
            position=position,
            gate=gate,
        )
        given = {
            "dropout": dropout > 0.0,
            "top_k": top_k is not None,
            "gate": gate is not None,
            "a position that adds to logits": position is not None
            and type(position).place is not HeadPosition.place,
            "num_key_value_heads": self.num_key_value_heads != num_heads,
            f"neighborhood={neighborhood}": neighborhood not in (Full(), Causal()),
            f"cross_neighborhood={cross_neighborhood}": cross_neighborhood
            not in (None, Full(), Causal()),
        }
        refused = [name for name, is_given in given.items() if is_given]
        if refused:
            raise ValueError(
                f"linear attention has sums, no keys to choose among, so {refused[0]} has no "
                "meaning for it; leave it out (dropout: pass 0), or use softmax"
            )
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(embed_dim, embed_dim, bias=bias) for _ in range(4)
        )
        start_projections(self.q_proj, self.k_proj, self.v_proj, self.out_proj)

    def new_cache(self) -> LinearCache:  # type: ignore[override]
        return LinearCache()

    def forward(
        self,
        query: Float[Tensor, "batch query embed"],
        key: Float[Tensor, "batch key embed"] | None = None,
        value: Float[Tensor, "batch key embed"] | None = None,
        *,
        key_padding_mask: Bool[Tensor, "batch key"] | Float[Tensor, "batch key"] | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: LinearCache | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; returns the output (batch, query, embed) and the weights or None."""
        check_rows(query)
        if attn_mask is not None or documents is not None:
            raise ValueError(
                "linear attention has sums, no keys to choose among: attn_mask and documents have "
                "no meaning for it; use key_padding_mask, is_causal, or softmax"
            )
        neighborhood = self.neighborhood_of(query, key, is_causal=is_causal)
        causal = isinstance(neighborhood, Causal)
        if cache is not None:
            self._check_cache(cache, causal=causal, need_weights=need_weights)
        key = query if key is None else key
        value = key if value is None else value
        width = self.embed_dim
        check_widths(query=(query, width), key=(key, width), value=(value, width))
        q, k, v = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        turn = None
        if self.position is not None:
            q, k = self.position.shift(q, k)
            places = self._positions(q, k, cache)
            rotate = self.position.rotate
            turn = tuple(partial(rotate, position=place) for place in places)
        real, bias = real_keys(key_padding_mask), None
        if key_padding_mask is not None and key_padding_mask.is_floating_point():
            bias = as_bias(key_padding_mask)
        options: dict[str, Any] = {"causal": causal, "real": real, "key_bias": bias, "turn": turn}
        past = None if cache is None else cache.state
        output, state = linear_attention(q, k, v, **options, state=past)
        if cache is not None:
            cache.advance(state, k.shape[2])
        weights = linear_weights(q, k, **options) if need_weights else None
        return self.out_proj(output.transpose(1, 2).flatten(2)), weights

    def _check_cache(self, cache: LinearCache, *, causal: bool, need_weights: bool) -> None:
        if not isinstance(cache, LinearCache):
            raise TypeError(
                f"LinearAttention cannot use a {type(cache).__name__}; use the cache of this very "
                "model's new_cache()"
            )
        if self.training or not causal or need_weights:
            raise ValueError(
                "a cache of sums is for causal inference, and knows no weights; call eval(), use "
                "is_causal=True, and ask for weights without a cache"
            )
