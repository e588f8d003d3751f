"""Position modules: what acts inside attention, and what is added to embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..functional.lift import Lift
from ..functional.position import (
    ADMISSIBLE,
    Convention,
    check_convention,
    gaussian_locality,
    morlet_constraints,
    morlet_encoding,
    oscillate,
    oscillator_frequencies,
    rotary_frequencies,
    rotate,
    sinusoidal_encoding,
)
from .parameter import HeadScalar, WideVector


class HeadPosition(nn.Module):
    """A position that acts inside attention; subclasses override one method or both.

    ``position`` counts indices of the row, left padding and other documents included: only
    differences matter to what is relative. ``convention`` says which features a rotation pairs.
    """

    convention: Convention = "half"

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


class OscillatorPosition(HeadPosition):
    """Reference oscillators: cosines of the distance, of learned size and delay in each head.

    ``sum_f a_hf cos(omega_f (t - u) + phi_hf)`` is added to the logit of a query at t and a key at
    u, beside what ``within``, another position, does (usually ``RotaryPosition``). ``a`` starts at
    ``amplitude`` nats and ``phi_hf`` at ``-omega_f delay_h``, where every wave of a head has its
    maximum: the head begins by looking ``delays[h]`` tokens back. ``count`` frequencies go from pi
    to ``2 pi / longest`` radians per position; ``learn_frequencies`` and ``learn_phases`` say what
    else than ``a`` is learned.

    Two more features an oscillator; any mechanism with a lift, grouped heads, windows, caches,
    documents and padding. Frequencies and phases stay in float32 or better.

    Raises ``ValueError`` for fewer than one oscillator, a period below 2 or delays that are not one
    a head and at least 0.

    Source: ours (section 2b of the mathematics); ``functional.oscillate``.
    """

    OFF: ClassVar[dict[str, float]] = {"amplitude": 0.0}

    def __init__(
        self,
        num_heads: int,
        count: int = 8,
        *,
        within: HeadPosition | None = None,
        amplitude: float = 0.7,
        longest: int = 128,
        delays: Sequence[int] | None = None,
        learn_frequencies: bool = False,
        learn_phases: bool = True,
    ) -> None:
        super().__init__()
        self.within = within
        if within is not None:
            self.convention = within.convention
        self.delays = usual_delays(num_heads) if delays is None else tuple(delays)
        if len(self.delays) != num_heads or min(self.delays, default=0) < 0:
            raise ValueError(
                f"delays are one number of tokens a head ({num_heads}), each at least 0; they are "
                f"{self.delays}"
            )
        self.count, self.longest = count, longest
        omega = oscillator_frequencies(count, longest)  # refuses what has none
        self.amplitude = WideVector(torch.full((num_heads, count), float(amplitude)))
        self.omega = WideVector(omega) if learn_frequencies else None
        self.phase = WideVector(self._delayed(omega)) if learn_phases else None

    def _delayed(self, omega: Tensor) -> Tensor:
        """Phases (head, oscillator) in (-pi, pi] at which waves are highest after the delays."""
        delays = torch.tensor(self.delays, dtype=torch.float64, device=omega.device)
        turned = -delays.unsqueeze(1) * omega.double()
        return torch.remainder(turned + math.pi, 2.0 * math.pi) - math.pi

    def angle(self, position: Tensor, dtype: torch.dtype) -> Tensor | None:
        return None if self.within is None else self.within.angle(position, dtype)

    def rotate(self, features: Tensor, position: Tensor) -> Tensor:
        return features if self.within is None else self.within.rotate(features, position)

    def place(self, lift: Lift, query_position: Tensor, key_position: Tensor) -> Lift:
        if self.within is not None:
            lift = self.within.place(lift, query_position, key_position)
        # What is not learned is computed anew: no buffer that model.to(bfloat16) would round.
        omega = oscillator_frequencies(self.count, self.longest).to(key_position.device)
        omega = omega if self.omega is None else self.omega()
        phase = self._delayed(omega) if self.phase is None else self.phase()
        waves = omega, self.amplitude(), phase
        return oscillate(lift, *waves, query_position=query_position, key_position=key_position)

    def extra_repr(self) -> str:
        return f"{len(self.delays)}, {self.count}, delays={self.delays}"


def usual_delays(heads: int) -> tuple[int, ...]:
    """Tokens that heads look back at the start: (0, 1, 2, 4) of four, most heads none of many."""
    if heads <= 4:
        return (0, 1, 2, 4)[:heads]
    return tuple((0, 0, 0, 1, 1, 2, 2, 3)[8 * head // heads] for head in range(heads))


class SinusoidalPosition(nn.Module):
    """Fixed sines and cosines to add to embeddings: ``functional.sinusoidal_encoding``.

    Maps positions (batch, token) to (batch, token, embed_dim) in float32, float64 after
    ``double()``. An infinite ``base`` gives the same
    encoding everywhere. Source: Vaswani et al. (2017), section 3.5.
    """

    OFF: ClassVar[dict[str, float]] = {"base": float("inf")}
    like: Tensor

    def __init__(self, embed_dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.embed_dim, self.base = embed_dim, base
        rotary_frequencies(embed_dim, base)  # refuses what has no frequencies
        self.register_buffer("like", torch.empty(0), persistent=False)  # of the dtype asked for

    def forward(
        self, position: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token embed_dim"]:
        if self.like.dtype == torch.float64:
            position = position.double()
        return sinusoidal_encoding(position, self.embed_dim, self.base)

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, base={self.base}"


class LearnedPosition(nn.Module):
    """A learned vector for each of ``max_length`` positions, to add to embeddings.

    Maps positions (batch, token) to (batch, token, embed_dim). Positions from ``max_length`` on
    have no vector: PyTorch raises ``IndexError``. Source: Gehring et al. (arXiv 1705.03122).
    """

    def __init__(self, embed_dim: int, max_length: int) -> None:
        super().__init__()
        if max_length < 1:
            raise ValueError(
                f"max_length counts positions, so it is at least 1; it is {max_length}"
            )
        self.max_length = max_length
        self.table = nn.Embedding(max_length, embed_dim)

    def forward(
        self, position: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token embed_dim"]:
        return self.table(position)


class RasterPosition(nn.Module):
    """Learned vectors of row, column and channel for numbers of a picture in raster order.

    Position t is channel ``t % channels`` of the pixel at column ``t // channels % columns`` of row
    ``t // (channels columns)``; the three vectors are added.

    Maps positions (batch, token) to (batch, token, embed_dim). Raises ``ValueError`` for a picture
    without a number; positions beyond its last have no vector: PyTorch raises ``IndexError``.
    """

    def __init__(self, embed_dim: int, rows: int, columns: int, channels: int = 1) -> None:
        super().__init__()
        if min(rows, columns, channels) < 1:
            raise ValueError(
                f"a picture has at least one number; it is {rows} x {columns} x {channels}"
            )
        self.max_length = rows * columns * channels
        self.columns, self.channels = columns, channels
        self.row = nn.Embedding(rows, embed_dim)
        self.column = nn.Embedding(columns, embed_dim)
        self.channel = nn.Embedding(channels, embed_dim)
        for table in (self.row, self.column, self.channel):
            nn.init.normal_(table.weight, std=0.25 / math.sqrt(3))  # together as an embedding

    def forward(
        self, position: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token embed_dim"]:
        pixel = position // self.channels
        place = self.row(pixel // self.columns) + self.column(pixel % self.columns)
        return place + self.channel(position % self.channels)


class MorletPosition(nn.Module):
    """Absolute Morlet positions to add to embeddings, frequencies and widths learned.

    ``PE(t)[2 c] = exp(-t^2 / (2 sigma_c^2)) cos(omega_c t)``, ``[2 c + 1]`` with sin, under
    ``functional.morlet_constraints``. Starts with omega log-spaced from 1 to 0.99 pi and
    sigma = 5 / omega: **beyond 15 tokens the encoding is below 0.2 % of its size** until training
    widens it (``extra_repr`` shows the widths).

    Maps positions (batch, token) to (batch, token, embed_dim); raises ``ValueError`` for an odd
    ``embed_dim``. Source: arXiv 2605.26355. Differs: see ``functional.morlet_constraints``.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        if embed_dim % 2:
            raise ValueError(f"Morlet positions come in pairs: embed_dim is even, not {embed_dim}")
        omega = torch.logspace(0.0, math.log10(0.99 * math.pi), embed_dim // 2)
        self.omega, self.sigma = WideVector(omega), WideVector(ADMISSIBLE / omega)

    def forward(
        self, position: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token embed_dim"]:
        return morlet_encoding(position, *morlet_constraints(self.omega(), self.sigma()))

    def extra_repr(self) -> str:
        if self.omega.value.is_meta:
            return ""
        _, sigma = morlet_constraints(self.omega.value.detach(), self.sigma.value.detach())
        return f"sigma from {sigma.min().item():.2f} to {sigma.max().item():.2f} tokens"


def _angle(position: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Tensor:
    """(token, half) in radians, in ``dtype`` if that is float32 or better."""
    wide = torch.promote_types(dtype, torch.float32)
    return position.to(wide).unsqueeze(-1) * frequencies.to(wide)
