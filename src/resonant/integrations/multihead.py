"""Attention in the place of an ``nn.MultiheadAttention``, with that module's conventions."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..nn.adapter import PhaseAdapter
from ..nn.attention import Attention
from ..nn.core import NO_FAST_PATH
from ..nn.linear import LinearAttention

# Of MultiheadAttention.forward, after query, key and value, in its order.
ARGUMENTS = (
    "key_padding_mask",
    "need_weights",
    "attn_mask",
    "average_attn_weights",
    "is_causal",
)


class HostedMultihead(nn.Module):
    """``attention`` called as ``nn.MultiheadAttention`` is, whatever ``batch_first`` was there.

    Weights are returned unless ``need_weights=False``, averaged over heads unless
    ``average_attn_weights=False``, and before dropout. Inputs without a batch (token, embed) are
    taken too. Made by ``resonant.swap``.

    Differs from MultiheadAttention: ``is_causal`` without a mask is applied, where torch demands a
    mask, and weights come before dropout.
    """

    # What nn.TransformerEncoder and its layers look at: see AttentionCore.
    in_proj_bias = None
    in_proj_weight = NO_FAST_PATH
    _qkv_same_embed_dim = False

    def __init__(
        self, attention: Attention | PhaseAdapter | LinearAttention, *, batch_first: bool
    ) -> None:
        super().__init__()
        self.attention, self.batch_first = attention, batch_first
        self.embed_dim, self.num_heads = attention.embed_dim, attention.num_heads

    @property
    def out_proj(self) -> nn.Module:
        """The last projection, which torch's layers look at."""
        return self.attention.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *given: Any, **named: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; returns the output, in the layout of ``query``, and the weights or None.

        Further arguments, by position or name: ``key_padding_mask``, ``need_weights``,
        ``attn_mask``, ``average_attn_weights``, ``is_causal``. Weights are (batch, query, key), per
        head (batch, head, query, key).
        """
        unknown = sorted(set(named) - set(ARGUMENTS))
        if unknown or len(given) > len(ARGUMENTS):
            raise TypeError(
                f"attention is called with {', '.join(ARGUMENTS)} after query, key and value; "
                f"there is no {unknown[0] if unknown else 'ninth argument'}"
            )
        return self._attended((query, key, value), **dict(zip(ARGUMENTS, given)), **named)  # noqa: B905

    def _attended(
        self,
        inputs: tuple[Tensor, Tensor, Tensor],
        *,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        query, key, value = inputs
        batched = query.dim() == 3
        ours = self._inward(query, batched)
        # What is one tensor stays one: so modules of ours tell self-attention.
        ours_key = ours if key is query else self._inward(key, batched)
        ours_value = ours_key if value is key else self._inward(value, batched)
        if not batched and key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        output, weights = self.attention(
            ours,
            ours_key,
            ours_value,
            key_padding_mask=key_padding_mask,
            attn_mask=attn_mask,
            # Beside a mask it is a hint that the mask is causal, by the top-left corner.
            is_causal=is_causal and (attn_mask is None or query.shape == key.shape),
            need_weights=need_weights,
        )
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return (output if self.batch_first else output.transpose(0, 1)), weights

    def _inward(self, x: Tensor, batched: bool) -> Tensor:
        """As (batch, token, embed)."""
        if not batched:
            return x.unsqueeze(0)
        return x if self.batch_first or x.is_nested else x.transpose(0, 1)

    def extra_repr(self) -> str:
        return f"batch_first={self.batch_first}"
