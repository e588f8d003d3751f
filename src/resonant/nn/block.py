"""The parts of a transformer around attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .adapter import PhaseAdapter
from .attention import Attention
from .cache import AttentionCache, CrossCache
from .kuramoto import KuramotoAttention
from .linear import LinearAttention
from .parameter import input_dtype
from .timed import TimedAttention


class SwiGLU(nn.Module):
    """``W_down (silu(W_gate x) * W_up x)``.

    ``out_dim`` is ``embed_dim`` if left out. Source: Shazeer, "GLU Variants Improve Transformer"
    (arXiv 2002.05202), equation 6.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, out_dim: int | None = None) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(embed_dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(embed_dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, out_dim or embed_dim, bias=False)

    def forward(self, x: Float[Tensor, "batch sequence embed"]) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Pre-norm residual block: ``x + attention(norm(x))``, then ``x + feedforward(norm(x))``.

    Causal unless told otherwise.
    """

    def __init__(
        self,
        attention: Attention | PhaseAdapter | LinearAttention,
        hidden_dim: int,
        *,
        causal: bool = True,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.attention_norm = nn.RMSNorm(attention.embed_dim)
        self.attention = attention
        self.feedforward_norm = nn.RMSNorm(attention.embed_dim)
        self.feedforward = SwiGLU(attention.embed_dim, hidden_dim)

    def forward(self, x: Float[Tensor, "batch sequence embed"], **options: Any) -> Tensor:
        """Options (``key_padding_mask``, ``cache``, ``documents``) go to the attention."""
        attended, _ = self.attention(self.attention_norm(x), is_causal=self.causal, **options)
        x = x + attended
        return x + self.feedforward(self.feedforward_norm(x))


class CrossBlock(Block):
    """A block with cross-attention to a source between its attention and its feed-forward layer.

    ``cross`` has MultiheadAttention's signature; clocks and mixtures are told which queries are
    padding.
    """

    def __init__(
        self,
        attention: Attention,
        cross: Attention | PhaseAdapter | LinearAttention | TimedAttention,
        hidden_dim: int,
        *,
        causal: bool = True,
    ) -> None:
        super().__init__(attention, hidden_dim, causal=causal)
        self.cross_norm = nn.RMSNorm(attention.embed_dim)
        self.cross = cross

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch sequence embed"],
        source: Float[Tensor, "batch key kdim"],
        *,
        key_padding_mask: Tensor | None = None,
        source_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        caches: BlockCache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Returns the output and, if asked for, the weights over the source (per head)."""
        own, timed = (None, None) if caches is None else (caches.own, caches.cross)
        attended, _ = self.attention(
            self.attention_norm(x),
            is_causal=self.causal,
            key_padding_mask=key_padding_mask,
            cache=own,
        )
        x = x + attended
        options: dict[str, Any] = {"need_weights": need_weights}
        if isinstance(self.cross, TimedAttention):
            options |= {"query_padding_mask": key_padding_mask, "cache": timed}
        attended, weights = self.cross(
            self.cross_norm(x), source, key_padding_mask=source_padding_mask, **options
        )
        x = x + attended
        return x + self.feedforward(self.feedforward_norm(x)), weights

    def new_cache(self) -> BlockCache:
        """An empty cache for decoding with this block; plain cross-attention needs none."""
        timed = self.cross.new_cache() if isinstance(self.cross, TimedAttention) else None
        return BlockCache(self.attention.new_cache(), timed)  # type: ignore[arg-type]


@dataclass
class BlockCache:
    """The caches of a ``CrossBlock``: its own past, and how far it has come along the source."""

    own: AttentionCache
    cross: CrossCache | None


class PhaseBlock(nn.Module):
    """Coupling, then the intrinsic drive: ``theta <- theta + W_down swiglu(W_up embed(theta))``.

    States in, states out (see ``KuramotoAttention``). There is no norm: [cos, sin] has constant
    length. Source: arXiv 2606.11585, the layer.
    """

    def __init__(self, coupling: KuramotoAttention, hidden_dim: int) -> None:
        super().__init__()
        manifold, coordinates = coupling.manifold, coupling.embed_dim
        self.attention = coupling
        self.drive = SwiGLU(
            coordinates * manifold.features, hidden_dim, coordinates * manifold.velocities
        )

    def forward(self, state: Float[Tensor, "batch sequence state"], **options: Any) -> Tensor:
        """Options (``key_padding_mask``, ``cache``, ``documents``) go to the coupling."""
        state, _ = self.attention(state, is_causal=True, **options)
        manifold, points = self.attention.manifold, self.attention.split(state)
        x = manifold.embed(points)
        force = self.attention.split(self.drive(x.flatten(2).to(input_dtype(self.drive.up_proj))))
        return self.attention.join(manifold.retract(points, manifold.drive(x, force)))
