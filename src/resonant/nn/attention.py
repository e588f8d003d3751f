"""Multi-head attention by any registered mechanism, with MultiheadAttention's words."""

from __future__ import annotations

import inspect
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..errors import nearest
from ..functional.lift import Lift
from ..functional.neighborhood import Full, Neighborhood
from ..mechanism import Mechanism, Scalar, mechanism
from .cache import AttentionCache
from .core import AttentionCore, check_rows, check_widths
from .energy import EnergyGate
from .parameter import HeadScalar, start_projections
from .position import HeadPosition


class Attention(AttentionCore):
    """Multi-head attention by the mechanism called ``mechanism_name``.

    Projects query, key and value, splits heads, turns them by ``position``, lifts them, gates the
    lift by ``gate``, attends over ``neighborhood`` and projects back. Words and defaults are those
    of ``torch.nn.MultiheadAttention`` with ``batch_first=True``; beyond them:
    ``num_key_value_heads`` (grouped queries), ``neighborhood`` (and ``cross_neighborhood``, where
    the key is another tensor than the query; None: the same), ``top_k``, ``position`` (a
    ``HeadPosition``), ``gate`` (an ``EnergyGate``), the start of each learned scalar of the
    mechanism (``sigma=2.5``), and ``scalars_per``: whether each "head" learns its own or the
    "layer" one for all heads.

    **Masks have MultiheadAttention's polarity: boolean True = blocked, and in
    ``key_padding_mask`` True = padding** (``resonant.functional`` has SDPA's, the opposite). Float
    masks are added. All sources of masking intersect.

    Serves as ``self_attn`` and ``multihead_attn`` of ``nn.TransformerEncoderLayer`` and
    ``nn.TransformerDecoderLayer``, in training and evaluation.

    Raises ``ValueError`` for sizes that do not divide and ``batch_first=False``, ``TypeError`` for
    an option or scalar that there is not.

    Differs from MultiheadAttention: weights come per head and only when asked for, ``is_causal``
    is applied rather than taken as a hint, and causality is bottom-right.
    """

    def __init__(
        self,
        mechanism_name: str,
        embed_dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        num_key_value_heads: int | None = None,
        neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
        cross_neighborhood: Neighborhood | None = None,
        top_k: int | None = None,
        position: HeadPosition | None = None,
        gate: EnergyGate | None = None,
        scalars_per: Literal["head", "layer"] = "head",
        **scalar_starts: float,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            num_key_value_heads=num_key_value_heads,
            dropout=dropout,
            batch_first=batch_first,
            neighborhood=neighborhood,
            cross_neighborhood=cross_neighborhood,
            top_k=top_k,
            position=position,
            gate=gate,
        )
        self.mechanism: Mechanism = mechanism(mechanism_name)
        if self.mechanism.couples_phases:
            raise ValueError(
                f"{mechanism_name} attention couples phases, not features; use PhaseAdapter inside "
                "an ordinary block, KuramotoAttention on phases"
            )
        self._check_gate(embed_dim if kdim is None else kdim)
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        narrow = self.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.k_proj = nn.Linear(embed_dim if kdim is None else kdim, narrow, bias=bias)
        self.v_proj = nn.Linear(embed_dim if vdim is None else vdim, narrow, bias=bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        scalars = _with_starts(self.mechanism, scalar_starts)
        _check_sharing(self.mechanism, scalars_per)
        self.scalars_per: Literal["head", "layer"] = scalars_per
        count = num_heads if scalars_per == "head" else 1
        self.scalars = nn.ModuleDict(
            {
                name: HeadScalar(count, scalar.start, positive=scalar.positive)
                for name, scalar in scalars.items()
            }
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections and zero biases, as MultiheadAttention starts."""
        start_projections(self.q_proj, self.k_proj, self.v_proj, self.out_proj)

    def lift(self, query: Tensor, key: Tensor, value: Tensor) -> Lift:
        """The mechanism's lift of projected heads with this module's learned scalars."""
        return self.mechanism.lift(query, key, value, **self.learned_scalars())

    def learned_scalars(self) -> dict[str, Float[Tensor, "head"]]:
        """The mechanism's learned scalars by name, one a head."""
        return {name: module().expand(self.num_heads) for name, module in self.scalars.items()}

    def watch(self, query: Tensor, key: Tensor) -> None:
        """Hook for diagnostics: the heads (batch, head, token, dim) that are lifted."""

    def observe(self, key: Tensor, blocked: Tensor | None) -> None:
        """Hook for statistics of training: sees the keys after they were used."""

    def forward(
        self,
        query: Float[Tensor, "batch query embed"],
        key: Float[Tensor, "batch key kdim"] | None = None,
        value: Float[Tensor, "batch key vdim"] | None = None,
        *,
        key_padding_mask: Bool[Tensor, "batch key"] | Float[Tensor, "batch key"] | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: AttentionCache | None = None,
        documents: Int[Tensor, "#batch key"] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; returns the output (batch, query, embed) and the weights or None.

        ``attn_mask`` is (query, key), (batch * head, query, key) or broadcasts to
        (batch, head, query, key). Weights (batch, head, query, key) come before dropout.
        ``cache`` holds the keys of earlier calls and takes these; causal attention only.
        ``documents`` labels tokens packed in one row: none sees another document's. A document ends
        where the label changes.
        """
        check_rows(query)
        key = query if key is None else key
        value = key if value is None else value
        check_widths(query=(query, self.embed_dim), key=(key, self.kdim), value=(value, self.vdim))
        neighborhood = self.neighborhood_of(query, key, is_causal=is_causal)
        self._check_call(attn_mask, neighborhood=neighborhood, cache=cache)
        heads, lift = self._lift(query, key, value, cache)
        self.watch(*heads)
        output, weights = self._attend(
            lift,
            key,
            key_padding_mask=key_padding_mask,
            attn_mask=attn_mask,
            neighborhood=neighborhood,
            need_weights=need_weights,
            cache=cache,
            documents=documents,
        )
        output = self.mechanism.read(output, heads[0])
        if self.training:
            self.observe(heads[1], key_padding_mask)
        return self.out_proj(output.transpose(1, 2).flatten(2)), weights

    def _lift(
        self, query: Tensor, key: Tensor, value: Tensor, cache: AttentionCache | None
    ) -> tuple[tuple[Tensor, Tensor], Lift]:
        """Query and key heads, turned, and their lift."""

        def split(features: Tensor) -> Tensor:
            return features.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        query, key = split(self.q_proj(query)), split(self.k_proj(key))
        value = split(self.v_proj(value))
        if self.position is None:
            return (query, key), self.lift(query, key, value)
        query_position, key_position = self._positions(query, key, cache)
        query, key = self.position.shift(query, key)
        query = self.position.rotate(query, query_position)
        key = self.position.rotate(key, key_position)
        lift = self.lift(query, key, value)
        return (query, key), self.position.place(lift, query_position, key_position)

    def extra_repr(self) -> str:
        return (
            f"{self.mechanism.name}, embed_dim={self.embed_dim}, num_heads={self.num_heads}, "
            f"neighborhood={self.neighborhood}, top_k={self.top_k}"
        )


def _check_sharing(mechanism: Mechanism, scalars_per: str) -> None:
    if scalars_per not in ("head", "layer"):
        raise ValueError(f"scalars_per is head or layer; it is {scalars_per!r}")
    if scalars_per != "head" and not mechanism.scalars:
        raise ValueError(
            f"{mechanism.name} learns no scalars, so scalars_per has no meaning for it; leave it "
            "out"
        )


def _with_starts(mechanism: Mechanism, starts: dict[str, float]) -> dict[str, Scalar]:
    unknown = sorted(set(starts) - set(mechanism.scalars))
    if unknown:
        hidden = ("mechanism_name", "scalar_starts")
        own = [p for p in inspect.signature(Attention).parameters if p not in hidden]
        raise TypeError(
            f"{mechanism.name} attention has no option or learned scalar {unknown[0]!r}; "
            f"{nearest(unknown[0], [*own, *mechanism.scalars])}"
        )
    return {
        name: Scalar(starts.get(name, scalar.start), scalar.off, scalar.baseline, scalar.positive)
        for name, scalar in mechanism.scalars.items()
    }
