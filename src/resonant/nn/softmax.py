"""Softmax attention as a module."""

from __future__ import annotations

from typing import Any

from .attention import Attention


class SoftmaxAttention(Attention):
    """Multi-head softmax attention: ``softmax(q k^T / sqrt(head_dim)) v``.

    Arguments, masks (boolean True = blocked) and errors: see ``Attention``.
    Source: Vaswani et al. (2017), section 3.2.
    """

    def __init__(self, embed_dim: int, num_heads: int, **options: Any) -> None:
        super().__init__("softmax", embed_dim, num_heads, **options)
