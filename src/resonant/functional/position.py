"""Positions as functions of queries and keys."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def rotary_frequencies(dim: int, base: float = 10_000.0) -> Float[Tensor, "half"]:
    """``omega_c = base ** (-2 c / dim)`` for c < dim / 2, in radians per position.

    An infinite base turns rotation off (all frequencies 0).
    Raises ``ValueError`` for an odd ``dim`` or a base that is not above 1.
    Source: Su et al., RoFormer (arXiv 2104.09864), section 3.2.2.
    """
    if dim % 2:
        raise ValueError(f"rotary positions turn pairs of features: dim must be even, it is {dim}")
    if not base > 1:
        raise ValueError(f"the rotary base must be above 1 (10000 is usual); it is {base}")
    if math.isinf(base):
        return torch.zeros(dim // 2)
    return base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim).float()


def rotate(
    features: Float[Tensor, "batch head sequence dim"],
    angle: Float[Tensor, "*batch sequence half"],
) -> Float[Tensor, "batch head sequence dim"]:
    """Turn the pair of features (c, c + dim / 2) by ``angle[..., c]`` radians.

    ``[x1 cos - x2 sin, x2 cos + x1 sin]`` with x1, x2 the two halves (the half-split convention).
    Angles stay in float32 or better; the result has the dtype of ``features``.
    Source: Su et al., RoFormer (arXiv 2104.09864), equation 34, with halves for neighbours.
    """
    cos, sin = angle.cos(), angle.sin()
    first, second = features.chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.to(features.dtype)
