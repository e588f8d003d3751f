"""Positions that act inside attention: what turns queries and keys, or adds to logits."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...functional.lift import Lift
from ...functional.position import (
    Convention,
    check_convention,
    gaussian_locality,
    rotary_frequencies,
    rotate,
)
from ..parameter import HeadScalar, WideVector


class HeadPosition(nn.Module):
    """A position that acts inside attention; subclasses override one method or both.

    ``position`` counts indices of the row, left padding and other documents included: only
    differences matter to what is relative. ``convention`` says which features a rotation pairs.
    """

    convention: Convention = "half"

    @property
    def shifts(self) -> bool:
        """Whether ``shift`` does anything."""
        return type(self).shift is not HeadPosition.shift

    def shift(
        self,
        query: Float[Tensor, "batch head query dim"],
        key: Float[Tensor, "batch key_head key dim"],
    ) -> tuple[Tensor, Tensor]:
        """Add to queries and keys what they have beside content, before they are turned."""
        return query, key

    def angle(
        self, position: Int[Tensor, "token"], dtype: torch.dtype
    ) -> Float[Tensor, "token half"] | None:
        """What queries and keys are turned by, in radians, in float32 or better (None: nothing)."""
        del position, dtype

    def rotate(
        self,
        features: Float[Tensor, "batch head token dim"],
        position: Int[Tensor, "token"],
    ) -> Float[Tensor, "batch head token dim"]:
        """Queries or keys turned by their positions, before they are lifted."""
        angle = self.angle(position, features.dtype)
        return features if angle is None else rotate(features, angle, convention=self.convention)

    def place(
        self,
        lift: Lift,
        query_position: Int[Tensor, "query"],
        key_position: Int[Tensor, "key"],
    ) -> Lift:
        """The lift with what positions add to its logits."""
        del query_position, key_position
        return lift


class RotaryPosition(HeadPosition):
    """Rotary positions: turns query and key so that scores see only relative positions.

    ``angle[t, c] = t omega_c`` with ``omega_c = base ** (-2 c / head_dim)``; ``convention`` says
    which features make a pair: "half" (c, c + head_dim / 2) or "interleaved" (2 c, 2 c + 1), see
    ``functional.rotate``. ``base`` is a number above 1; infinity turns rotation off.

    Raises ``ValueError`` for an odd ``head_dim``, a base that is not above 1 or an unknown
    convention. Source: Su et al., RoFormer (arXiv 2104.09864), section 3.2.2.
    """

    OFF: ClassVar[dict[str, float]] = {"base": float("inf")}

    def __init__(
        self, head_dim: int, base: float = 10_000.0, *, convention: Convention = "half"
    ) -> None:
        super().__init__()
        check_convention(convention)
        self.head_dim, self.base = head_dim, base
        self.convention: Convention = convention
        rotary_frequencies(head_dim, base)  # refuses what has no frequencies

    def angle(self, position: Tensor, dtype: torch.dtype) -> Tensor:
        # Computed anew: no buffer that model.to(bfloat16) would round.
        frequencies = rotary_frequencies(self.head_dim, self.base).to(position.device)
        return _angle(position, frequencies, dtype)

    def extra_repr(self) -> str:
        return f"base={self.base}, convention={self.convention}"


class RelativeMorletPosition(HeadPosition):
    """Relative Morlet positions: rotary with learned frequencies, times a Gaussian of distance.

    ``-(i - j)^2 / (2 ell_h^2)`` is added to the logits, and query and key are turned by ``omega``,
    which is learned per pair of features (start: rotary frequencies of ``base``); the width ``ell``
    is learned per head, in positions; infinity is RoPE.

    Raises ``ValueError`` as ``RotaryPosition`` does.

    Source: the theory paper of Morlet positions (arXiv 2606.01258), whose phase is RoPE's angle and
    whose amplitude a Gaussian locality kernel. Differs: one width per head, where the paper has one
    per frequency; made relative by us.
    """

    OFF: ClassVar[dict[str, float]] = {"ell": float("inf"), "base": float("inf")}

    def __init__(
        self,
        head_dim: int,
        num_heads: int,
        *,
        ell: float = 64.0,
        base: float = 10_000.0,
        convention: Convention = "half",
    ) -> None:
        super().__init__()
        if not ell > 0:
            raise ValueError(f"ell is a width in positions and must be above 0, but it is {ell}")
        check_convention(convention)
        self.convention: Convention = convention
        self.omega = WideVector(rotary_frequencies(head_dim, base))
        self.ell = HeadScalar(num_heads, ell, positive=True)

    def angle(self, position: Tensor, dtype: torch.dtype) -> Tensor:
        return _angle(position, self.omega(), dtype)

    def place(self, lift: Lift, query_position: Tensor, key_position: Tensor) -> Lift:
        positions = {"query_position": query_position, "key_position": key_position}
        return gaussian_locality(lift, self.ell(), **positions)


def _angle(position: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Tensor:
    """(token, half) in radians, in ``dtype`` if that is float32 or better."""
    wide = torch.promote_types(dtype, torch.float32)
    return position.to(wide).unsqueeze(-1) * frequencies.to(wide)
