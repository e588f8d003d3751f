"""What every attention module does with lifted keys: mask, gate, remember, attend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from ..functional.attend import attend, attention_weights
from ..functional.documents import document_runs
from ..functional.lift import Documents, Lift
from ..functional.mask import as_bias, from_blocked
from ..functional.neighborhood import (
    Causal,
    Full,
    Neighborhood,
    causal_part,
    check_top_k,
    positions,
    reach,
)
from .cache import AttentionCache, CouplingCache, LinearCache, refuse_training
from .energy import EnergyGate
from .position import HeadPosition


class _NoFastPath:
    """Stands where PyTorch looks for a weight: what has a ``__torch_function__`` rules C++ out."""

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        return NotImplemented


NO_FAST_PATH = _NoFastPath()


def check_rows(query: Tensor) -> None:
    """Raise ``ValueError`` for what is not (batch, sequence, embed).

    Such is a nested tensor, which PyTorch's encoder makes of padded rows.
    """
    if query.is_nested:
        raise ValueError(
            "attention takes padded rows and a mask, but nn.TransformerEncoder has made a nested "
            "tensor of them; build it with enable_nested_tensor=False, or use resonant.swap"
        )
    if query.dim() != 3:
        raise ValueError(
            "attention takes (batch, sequence, embed), but the query has shape "
            f"{tuple(query.shape)}; add a batch axis with unsqueeze(0)"
        )


def check_widths(**given: tuple[Tensor, int]) -> None:
    """Raise ``ValueError`` unless each tensor, by name, is as wide as its projection takes.

    ``query=(tensor, width)``: the last axis of the tensor is to have ``width`` features.
    """
    names = {"query": "embed_dim", "key": "kdim", "value": "vdim"}
    for name, (x, width) in given.items():
        if x.shape[-1] != width:
            raise ValueError(
                f"the {name} has {x.shape[-1]} features, but this module was made for {width} "
                f"({names[name]}); give it such features, or make a module for these"
            )


class AttentionCore(nn.Module):
    """Masks, energy gate, positions and cache, the same for every attention module.

    A subclass makes a lift and hands it to ``_attend``. Options and errors: see ``Attention``.
    """

    OFF: ClassVar[dict[str, float]] = {"dropout": 0.0}

    # MultiheadAttention's C++ path inside the Transformer layers would silently run softmax; these
    # two attributes are what those layers look at to rule it out.
    in_proj_bias = None
    _qkv_same_embed_dim = False
    in_proj_weight = NO_FAST_PATH  # looked at by nn.TransformerEncoder where there is padding
    couples = False  # whether its cache is a CouplingCache

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_key_value_heads: int | None = None,
        dropout: float = 0.0,
        batch_first: bool = True,
        neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
        cross_neighborhood: Neighborhood | None = None,
        top_k: int | None = None,
        position: HeadPosition | None = None,
        gate: EnergyGate | None = None,
    ) -> None:
        super().__init__()
        key_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        _check_sizes(
            embed_dim, num_heads, key_heads, dropout=dropout, batch_first=batch_first, top_k=top_k
        )
        self.embed_dim, self.num_heads, self.num_key_value_heads = embed_dim, num_heads, key_heads
        self.head_dim = embed_dim // num_heads
        self.dropout, self.batch_first = dropout, True
        if gate is not None and not isinstance(gate, EnergyGate):
            raise TypeError(
                f"gate is a module, such as EnergyGate({embed_dim}, {key_heads}); not {gate!r}"
            )
        if position is not None and not isinstance(position, HeadPosition):
            raise TypeError(
                f"position is a module, such as RotaryPosition({embed_dim // num_heads}); not "
                f"{position!r}"
            )
        if self.couples and position is not None and position.shifts:
            raise ValueError(
                "coupling has phases, no queries and keys to add to, but the position is "
                f"{position!r}; use RotaryPosition"
            )
        reach(neighborhood)  # refuses what is no neighborhood
        self.neighborhood, self.top_k = neighborhood, top_k
        self.cross_neighborhood = cross_neighborhood
        if cross_neighborhood is not None:
            reach(cross_neighborhood)
        self.position, self.gate = position, gate

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

    def new_cache(self) -> AttentionCache:
        """An empty cache for decoding with this module."""
        if not isinstance(self.neighborhood, Causal):
            return AttentionCache()
        return AttentionCache(self.neighborhood.window, self.neighborhood.first)

    def _attend(
        self,
        lift: Lift,
        source: Tensor,
        *,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        neighborhood: Neighborhood,
        need_weights: bool = False,
        cache: AttentionCache | None = None,
        documents: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attention over a lift whose keys come from ``source``, with every source of masking.

        Returns heads (batch, head, query, value_dim), and the weights if asked for.
        """
        lift = self._padded(lift, key_padding_mask)
        lift = self._within(lift, documents, cache)
        if self.gate is not None:
            known = {"key_padding_mask": key_padding_mask, "documents": documents, "cache": cache}
            lift = self.gate(lift, source, **known)
        if cache is not None:
            lift = cache.update(lift)
            cache.document = None if documents is None else documents[:, -1:]
        mask = self._functional_mask(attn_mask, lift.query.shape[0])
        lift, neighborhood, mask = self._met(lift, neighborhood, mask)
        options = {"neighborhood": neighborhood, "top_k": self.top_k, "attn_mask": mask}
        dropout_p = self.dropout if self.training else 0.0
        weights = attention_weights(lift, **options) if need_weights else None
        return attend(lift, **options, dropout_p=dropout_p), weights

    def _met(
        self, lift: Lift, neighborhood: Neighborhood, mask: Tensor | None
    ) -> tuple[Lift, Neighborhood, Tensor | None]:
        """What queries meet, cached keys among it, as attention takes it."""
        return lift, neighborhood, mask

    def neighborhood_of(
        self, query: Tensor, key: Tensor | None, *, is_causal: bool
    ) -> Neighborhood:
        """What queries see in this call: ``cross_neighborhood`` where ``key`` are other tokens.

        Without one the neighborhood is the same for all keys. ``key`` is ``query`` itself, or None,
        in self-attention.

        Raises ``ValueError`` where the two differ and nothing says which it is: other tokens, and
        just as many.
        """
        seen, cross = self.neighborhood, self.cross_neighborhood
        if cross is not None and cross != seen and key is not None and key is not query:
            if key.shape[1] == query.shape[1]:
                raise ValueError(
                    f"the neighborhood is {seen} in self-attention and {cross} in cross-attention, "
                    f"but query and key are two tensors of {key.shape[1]} tokens, which may be "
                    "either; pass the same tensor for both, or leave this layer out"
                )
            seen = cross
        return causal_part(seen) if is_causal else seen

    def _positions(
        self, query: Tensor, key: Tensor, cache: AttentionCache | LinearCache | None
    ) -> tuple[Tensor, Tensor]:
        """Where queries and keys (batch, head, sequence, ...) stand.

        The last query stands at the last key; with more queries than keys the first are early.
        """
        start = 0 if cache is None else cache.length
        sizes = positions(query.shape[2], key.shape[2], key.device)
        return start + sizes[0], start + sizes[1]

    def _check_call(
        self,
        mask: Tensor | None,
        *,
        neighborhood: Neighborhood,
        cache: AttentionCache | CouplingCache | None,
    ) -> None:
        """Refuse what would leak or be wrong, before anything is computed or stored."""
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
        if isinstance(cache, CouplingCache) != self.couples:
            raise TypeError(
                f"{type(self).__name__} cannot use a {type(cache).__name__}; use the cache of this "
                "very model's new_cache()"
            )
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
            # A triangle that was expanded is one for all rows and heads.
            same = mask.shape[0] > 1 and mask.stride(0) == 0
            mask = mask[0] if same else mask.unflatten(0, (batch, self.num_heads))
        return from_blocked(mask)


def check_value(query: Tensor, key: Tensor | None, value: Tensor | None) -> None:
    """Raise ``ValueError`` unless the values are the keys."""
    if value is not None and value is not (query if key is None else key):
        raise ValueError(
            "the values of coupling are the phases of its keys; leave value out, or pass the key"
        )


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
    check_top_k(top_k)
