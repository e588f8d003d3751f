"""Multi-head attention by any registered mechanism, with MultiheadAttention's words."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..errors import nearest
from ..functional.attend import attend, attention_weights
from ..functional.documents import document_runs
from ..functional.lift import Documents, Lift
from ..functional.mask import as_bias, from_blocked
from ..functional.mechanism import Mechanism, Scalar, mechanism
from ..functional.neighborhood import Causal, Full, Neighborhood, causal_part, positions, reach
from .cache import AttentionCache, refuse_training
from .energy import EnergyGate
from .parameter import HeadScalar
from .position import HeadPosition


class Attention(nn.Module):
    """Multi-head attention by the mechanism called ``mechanism_name``.

    Projects query, key and value, splits heads, turns them by ``position``, lifts them, gates the
    lift by ``gate``, attends over ``neighborhood`` and projects back. Words and defaults are those
    of ``torch.nn.MultiheadAttention`` with ``batch_first=True``; beyond them:
    ``num_key_value_heads`` (grouped queries), ``neighborhood``, ``top_k``, ``position`` (a
    ``HeadPosition``), ``gate`` (an ``EnergyGate``), and the start of each learned scalar of the
    mechanism (``sigma=2.5``).

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

    OFF: ClassVar[dict[str, float]] = {"dropout": 0.0}

    # MultiheadAttention's C++ path inside the Transformer layers would silently run softmax; these
    # two attributes are what those layers look at to rule it out.
    in_proj_bias = None
    _qkv_same_embed_dim = False

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
        top_k: int | None = None,
        position: HeadPosition | None = None,
        gate: EnergyGate | None = None,
        **scalar_starts: float,
    ) -> None:
        super().__init__()
        key_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        _check_sizes(
            embed_dim, num_heads, key_heads, dropout=dropout, batch_first=batch_first, top_k=top_k
        )
        self.mechanism: Mechanism = mechanism(mechanism_name)
        self.embed_dim, self.num_heads, self.num_key_value_heads = embed_dim, num_heads, key_heads
        self.head_dim = embed_dim // num_heads
        self.dropout, self.batch_first = dropout, True
        reach(neighborhood)  # refuses what is no neighborhood
        self.neighborhood, self.top_k = neighborhood, top_k
        self.position, self.gate = position, gate
        self._check_gate(embed_dim if kdim is None else kdim)
        narrow = key_heads * self.head_dim
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.k_proj = nn.Linear(embed_dim if kdim is None else kdim, narrow, bias=bias)
        self.v_proj = nn.Linear(embed_dim if vdim is None else vdim, narrow, bias=bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        scalars = _with_starts(self.mechanism, scalar_starts)
        self.scalars = nn.ModuleDict(
            {
                name: HeadScalar(num_heads, scalar.start, positive=scalar.positive)
                for name, scalar in scalars.items()
            }
        )
        self.reset_parameters()

    def _check_gate(self, source_dim: int) -> None:
        if self.gate is None:
            return
        wanted = (source_dim, self.num_key_value_heads)
        given = (self.gate.energy.in_features, self.gate.energy.out_features)
        if given != wanted:
            raise ValueError(
                f"the gate was made as EnergyGate{given}, but keys here come from {wanted[0]} "
                f"features and have {wanted[1]} heads; use EnergyGate{wanted}"
            )
        if isinstance(self.neighborhood, Causal):
            self.gate.refuse_causal(f"the neighborhood is {self.neighborhood}")

    def reset_parameters(self) -> None:
        """Xavier-uniform projections and zero biases, as MultiheadAttention starts."""
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def lift(self, query: Tensor, key: Tensor, value: Tensor) -> Lift:
        """The mechanism's lift of projected heads with this module's learned scalars."""
        scalars = {name: module() for name, module in self.scalars.items()}
        return self.mechanism.lift(query, key, value, **scalars)

    def observe(self, key: Tensor, blocked: Tensor | None) -> None:
        """Hook for statistics of training: sees the keys after they were used."""

    def new_cache(self) -> AttentionCache:
        """An empty cache for decoding with this module."""
        window = self.neighborhood.window if isinstance(self.neighborhood, Causal) else None
        return AttentionCache(window)

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
        if query.dim() != 3:
            raise ValueError(
                "attention takes (batch, sequence, embed), but the query has shape "
                f"{tuple(query.shape)}; add a batch axis with unsqueeze(0)"
            )
        key = query if key is None else key
        value = key if value is None else value
        neighborhood = causal_part(self.neighborhood) if is_causal else self.neighborhood
        self._check_causal(neighborhood, attn_mask, cache)
        heads, lift = self._lift(query, key, value, 0 if cache is None else cache.length)
        lift = self._padded(lift, key_padding_mask)
        lift = self._within(lift, documents, cache)
        if self.gate is not None:
            known = {"key_padding_mask": key_padding_mask, "documents": documents, "cache": cache}
            lift = self.gate(lift, key, **known)
        if cache is not None:
            lift = cache.update(lift)
            cache.document = None if documents is None else documents[:, -1:]
        options = {
            "neighborhood": neighborhood,
            "top_k": self.top_k,
            "attn_mask": self._functional_mask(attn_mask, query.shape[0]),
        }
        dropout_p = self.dropout if self.training else 0.0
        weights = attention_weights(lift, **options) if need_weights else None
        output = attend(lift, **options, dropout_p=dropout_p)
        output = self.mechanism.read(output, heads[0])
        if self.training:
            self.observe(heads[1], key_padding_mask)
        return self.out_proj(output.transpose(1, 2).flatten(2)), weights

    def _check_causal(
        self, neighborhood: Neighborhood, mask: Tensor | None, cache: AttentionCache | None
    ) -> None:
        causal = isinstance(neighborhood, Causal)
        if self.gate is not None:
            if causal:
                self.gate.refuse_causal("attention is causal here")
            if mask is not None:
                self.gate.refuse_causal("attn_mask may be causal")
            if cache is not None:
                self.gate.refuse_causal("a cache is for causal attention")
        if cache is None:
            return
        refuse_training(self)
        if not causal:
            raise ValueError(
                f"with a cache later tokens cannot be seen, but the neighborhood is "
                f"{neighborhood}; use Causal() or is_causal=True"
            )
        if mask is not None:
            raise ValueError(
                "attn_mask cannot be used with a cache, whose keys it does not know; use "
                "key_padding_mask, documents or a neighborhood"
            )

    def _lift(
        self, query: Tensor, key: Tensor, value: Tensor, start: int
    ) -> tuple[tuple[Tensor, Tensor], Lift]:
        """Query and key heads, turned, and their lift; keys stand at ``start`` and after."""

        def split(features: Tensor) -> Tensor:
            return features.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        query, key = split(self.q_proj(query)), split(self.k_proj(key))
        value = split(self.v_proj(value))
        if self.position is None:
            return (query, key), self.lift(query, key, value)
        # The last query stands at the last key; with more queries than keys the first are early.
        sizes = positions(query.shape[2], key.shape[2], key.device)
        query_position, key_position = (start + each for each in sizes)
        query = self.position.rotate(query, query_position)
        key = self.position.rotate(key, key_position)
        lift = self.lift(query, key, value)
        return (query, key), self.position.place(lift, query_position, key_position)

    def _within(self, lift: Lift, documents: Tensor | None, cache: AttentionCache | None) -> Lift:
        if documents is None:
            return lift
        fits = documents.dim() == 2 and documents.shape[1] == lift.key.shape[2]
        if lift.query.shape[2] != lift.key.shape[2] or not fits:
            raise ValueError(
                "documents labels the tokens of self-attention, (batch, sequence), but there are "
                f"{lift.query.shape[2]} queries, {lift.key.shape[2]} keys and labels of shape "
                f"{tuple(documents.shape)}; use attn_mask in cross-attention"
            )
        past = {} if cache is None else {"past_document": cache.document, "past_run": cache.run}
        runs = document_runs(documents.expand(lift.key.shape[0], -1), **past)
        return replace(lift, documents=Documents(runs, runs))

    def _padded(self, lift: Lift, padding: Tensor | None) -> Lift:
        if padding is None:
            return lift
        if tuple(padding.shape) != (lift.key.shape[0], lift.key.shape[2]):
            raise ValueError(
                "key_padding_mask must have shape (batch, key) = "
                f"({lift.key.shape[0]}, {lift.key.shape[2]}), but it is {tuple(padding.shape)}"
            )
        return lift.add_bias(as_bias(from_blocked(padding)).unsqueeze(1))

    def _functional_mask(self, mask: Tensor | None, batch: int) -> Tensor | None:
        if mask is None:
            return None
        if mask.dim() == 3:
            if mask.shape[0] != batch * self.num_heads:
                raise ValueError(
                    "a 3-D attn_mask must have shape (batch * head, query, key) with "
                    f"batch * head = {batch * self.num_heads}, but it is {tuple(mask.shape)}"
                )
            mask = mask.unflatten(0, (batch, self.num_heads))
        return from_blocked(mask)

    def extra_repr(self) -> str:
        return (
            f"{self.mechanism.name}, embed_dim={self.embed_dim}, num_heads={self.num_heads}, "
            f"neighborhood={self.neighborhood}, top_k={self.top_k}"
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


def _check_sizes(
    embed_dim: int,
    num_heads: int,
    key_heads: int,
    *,
    dropout: float,
    batch_first: bool,
    top_k: int | None,
) -> None:
    if not batch_first:
        raise ValueError(
            "batch_first=False is not supported: tensors are (batch, sequence, embed); "
            "transpose(0, 1) around the module"
        )
    if num_heads < 1 or embed_dim % num_heads:
        raise ValueError(
            f"num_heads must divide embed_dim, but they are {num_heads} and {embed_dim}"
        )
    if key_heads < 1 or num_heads % key_heads:
        raise ValueError(
            f"num_key_value_heads must divide num_heads, but they are {key_heads} and {num_heads}"
        )
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is a probability in [0, 1); it is {dropout}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k counts the keys to keep, so it is at least 1; it is {top_k}")
