"""Attention inside windows of an image that shift from block to block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..functional.attend import attend, attention_weights
from ..functional.lift import Documents
from ..mechanism import mechanism
from .attention import Attention
from .factory import attention


class WindowAttention(nn.Module):
    """Multi-head attention among the patches of each window, with a bias per distance and head.

    ``logit[i, j] = score(q_i, k_j) + bias[row_i - row_j, column_i - column_j]`` for patches of one
    window of ``window`` x ``window``; with ``shift`` the windows begin ``shift`` patches further
    down and right, and what the image's edge cuts apart does not meet. The bias, (2 window - 1)^2
    numbers a head, starts at 0; ``relative=False`` leaves it out.

    ``mechanism_name`` and its starts are those of ``resonant.nn.attention``. Krause scores queries
    and keys times ``1 / sqrt(head_dim)``, so ``sigma`` is in their units (published: 4.0); what is
    learned is ``sigma sqrt(head_dim)``, which is the same function with the same gradients of
    ``log sigma``.

    Maps (batch, row, column, embed) to the same, and weights (batch * window, head, patch, patch)
    or None. Raises ``ValueError`` for a shift outside the window, and for an image that windows do
    not divide.

    Source: Liu et al., Swin (arXiv 2103.14030), equation 4 and section 3.2; Krause in windows:
    arXiv 2602.11534.
    """

    def __init__(
        self,
        mechanism_name: str,
        embed_dim: int,
        num_heads: int,
        window: int,
        *,
        shift: int = 0,
        relative: bool = True,
        dropout: float = 0.0,
        **scalar_starts: float,
    ) -> None:
        super().__init__()
        if not 0 <= shift < window:
            raise ValueError(
                f"a window of {window} is shifted by 0 to {window - 1} patches, not by {shift}"
            )
        self.window, self.shift = window, shift
        starts: dict[str, Any] = dict(scalar_starts)
        for name, start in mechanism(mechanism_name).window_starts.items():
            starts[name] = starts.get(name, start) * (embed_dim // num_heads) ** 0.5
        inner = attention(mechanism_name, embed_dim, num_heads, dropout=dropout, **starts)
        if not isinstance(inner, Attention):
            raise ValueError(
                f"{mechanism_name} attention has no logits to add a bias to; use softmax, krause "
                "or a mechanism of your own"
            )
        self.attention = inner
        places = (2 * window - 1) ** 2
        self.bias = nn.Parameter(torch.zeros(places, num_heads)) if relative else None

    @property
    def no_weight_decay(self) -> tuple[str, ...]:
        """A bias is no matrix, whatever its shape."""
        return () if self.bias is None else ("bias",)

    def forward(
        self, x: Float[Tensor, "batch row column embed"], *, need_weights: bool = False
    ) -> tuple[Float[Tensor, "batch row column embed"], Tensor | None]:
        batch, rows, columns, _ = x.shape
        if rows % self.window or columns % self.window:
            raise ValueError(
                f"windows of {self.window} do not divide {rows} x {columns} patches; pad the "
                "picture, or choose another window"
            )
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        inner, windows = self.attention, _windows(x, self.window)
        (query, key), lift = inner._lift(windows, windows, windows, None)
        if self.shift:
            labels = self._regions(rows, columns, x.device).repeat(batch, 1)
            lift = replace(lift, documents=Documents(labels, labels))
        mask = self._bias()
        weights = attention_weights(lift, attn_mask=mask) if need_weights else None
        dropout_p = inner.dropout if self.training else 0.0
        heads = inner.mechanism.read(attend(lift, attn_mask=mask, dropout_p=dropout_p), query)
        if self.training:
            inner.observe(key, None)
        output = inner.out_proj(heads.transpose(1, 2).flatten(2))
        x = _joined(output, self.window, rows, columns)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x, weights

    def _bias(self) -> Float[Tensor, "1 head patch patch"] | None:
        if self.bias is None:
            return None
        place = torch.arange(self.window, device=self.bias.device)
        away = place.unsqueeze(1) - place + self.window - 1
        side = 2 * self.window - 1
        index = side * away[:, None, :, None] + away[None, :, None, :]
        return self.bias[index.flatten(2).flatten(0, 1)].permute(2, 0, 1).unsqueeze(0)

    def _regions(
        self, rows: int, columns: int, device: torch.device
    ) -> Int[Tensor, "window patch"]:
        """Labels of what lay together before the roll: patches of several regions do not meet."""

        def parts(length: int) -> Tensor:
            """0 before the last window, 1 in it, 2 where the other edge was rolled in."""
            place = torch.arange(length, device=device)
            return (place >= length - self.window).long() + (place >= length - self.shift).long()

        labels = 3 * parts(rows).unsqueeze(1) + parts(columns)
        return _windows(labels[None, :, :, None], self.window).squeeze(-1)


class PatchMerging(nn.Module):
    """Four neighbouring patches as one of twice the features: norm, then a linear map of the four.

    Source: Liu et al. (arXiv 2103.14030), section 3.1.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * embed_dim)
        self.reduction = nn.Linear(4 * embed_dim, 2 * embed_dim, bias=False)

    def forward(self, x: Float[Tensor, "batch row column embed"]) -> Tensor:
        four = x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 1, 3, 2, 4, 5)
        return self.reduction(self.norm(four.flatten(3)))


def _windows(x: Tensor, window: int) -> Tensor:
    """(batch, row, column, ...) -> (batch * window, patch, ...)."""
    cut = x.unflatten(2, (-1, window)).unflatten(1, (-1, window)).transpose(2, 3)
    return cut.flatten(3, 4).flatten(0, 2)


def _joined(x: Tensor, window: int, rows: int, columns: int) -> Tensor:
    """The reverse of ``_windows``."""
    cut = x.unflatten(0, (-1, rows // window, columns // window)).unflatten(3, (window, window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)
