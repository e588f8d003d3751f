"""Kuramoto attention inside an ordinary transformer block."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .cache import CouplingCache
from .core import NO_FAST_PATH, check_rows, check_value, check_widths
from .kuramoto import KuramotoAttention
from .parameter import input_dtype, start_projections


class PhaseAdapter(nn.Module):
    """Kuramoto attention inside an ordinary transformer block: features in, features out.

    ``phase = W_in x``; phases couple (``KuramotoAttention``); the output is
    ``W_out (embed(coupled) - embed(phase))``, so that a coupling that does nothing adds exactly
    nothing (off the circle: nothing but rounding). ``phases`` is the number of angles a token (half
    of ``embed_dim`` if left out: heads then attend with as many features as ordinary ones, and take
    the same ``position``). ``kdim`` is the width of other tokens' features in cross-attention,
    which then have a projection of their own. Values are the phases of keys: ``value`` is the key.
    ``gate`` is an ``EnergyGate(phases * features, num_heads)``; remaining options: see
    ``KuramotoAttention``.

    Serves as ``self_attn`` and ``multihead_attn`` of ``nn.TransformerEncoderLayer`` and
    ``nn.TransformerDecoderLayer``.

    Raises ``ValueError`` for grouped heads and a ``vdim``, which phases cannot have, and as
    ``KuramotoAttention`` does. Source: ours.
    """

    OFF: ClassVar[dict[str, float]] = KuramotoAttention.OFF
    batch_first = True
    in_proj_bias = None
    _qkv_same_embed_dim = False
    in_proj_weight = NO_FAST_PATH

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        phases: int | None = None,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        num_key_value_heads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if num_key_value_heads not in (None, num_heads):
            raise ValueError(
                f"heads share out the phases, so there are as many key heads as query heads "
                f"({num_heads}), not {num_key_value_heads}; leave num_key_value_heads out"
            )
        if vdim not in (None, kdim):
            raise ValueError("the values of coupling are the phases of its keys; leave vdim out")
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.kdim = embed_dim if kdim is None else kdim
        phases = embed_dim // 2 if phases is None else phases
        if num_heads < 1 or phases % num_heads:
            raise ValueError(
                "num_heads must divide phases (half of embed_dim if left out), but they are "
                f"{num_heads} and {phases}"
            )
        self.coupling = KuramotoAttention(phases, num_heads, **options)
        manifold = self.coupling.manifold
        self.in_proj = nn.Linear(embed_dim, phases * manifold.velocities, bias=bias)
        self.key_proj = None
        if kdim is not None:
            self.key_proj = nn.Linear(kdim, phases * manifold.velocities, bias=bias)
        self.out_proj = nn.Linear(phases * manifold.features, embed_dim, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections and zero biases."""
        start_projections(self.in_proj, self.key_proj, self.out_proj)

    def new_cache(self) -> CouplingCache:
        """An empty cache for decoding with this module."""
        return self.coupling.new_cache()

    def forward(
        self,
        query: Float[Tensor, "batch query embed"],
        key: Float[Tensor, "batch key kdim"] | None = None,
        value: Float[Tensor, "batch key kdim"] | None = None,
        *,
        key_padding_mask: Bool[Tensor, "batch key"] | Float[Tensor, "batch key"] | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: CouplingCache | None = None,
        documents: Int[Tensor, "#batch key"] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the output (batch, query, embed) and the weights or None.

        Masks, weights, ``cache`` and ``documents`` as in ``Attention.forward``.
        """
        check_value(query, key, value)
        check_rows(query)
        check_widths(query=(query, self.embed_dim))
        others_dim = self.embed_dim if self.key_proj is None else self.kdim
        check_widths(key=(query if key is None else key, others_dim))
        phase = self._phase(self.in_proj(query))
        others = None
        if key is not None and key is not query:
            others = self._phase((self.in_proj if self.key_proj is None else self.key_proj)(key))
        elif self.key_proj is not None:
            others = self._phase(self.key_proj(query))
        coupled, weights = self.coupling(
            phase,
            others,
            key_padding_mask=key_padding_mask,
            attn_mask=attn_mask,
            is_causal=is_causal,
            need_weights=need_weights,
            cache=cache,
            documents=documents,
        )
        before, after = (self._embedded(state) for state in (phase, coupled))
        return self.out_proj((after - before).to(input_dtype(self.out_proj))), weights

    def _phase(self, force: Tensor) -> Tensor:
        return self.coupling.join(self.coupling.manifold.point(self.coupling.split(force)))

    def _embedded(self, state: Tensor) -> Tensor:
        return self.coupling.manifold.embed(self.coupling.split(state)).flatten(2)
