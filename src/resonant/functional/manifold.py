"""Manifolds whose points can be coupled: the circle, spheres, rotations, unitary matrices.

A tensor holds many points: (..., component, coordinate), one point a coordinate. Sums over tokens
are taken of embedded points, (..., feature, coordinate). A complex number is two real ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

TURN = 2.0 * math.pi
# Below this squared angle three terms of the series are exact to float64's rounding, and the
# derivative of the square root, which is infinite at 0, is not needed.
SMALL_SQUARE = 1e-4


class Manifold(ABC):
    """What coupling asks of a manifold: ``inner``, ``mean``, ``tangent``, ``retract``.

    Beside these four: ``embed`` (points to the numbers that are summed), ``turn`` (drift),
    ``drive`` and ``point`` (a velocity, a point for any numbers). A point is kept as ``components``
    numbers, embedded as ``features``, and has velocities of ``velocities`` numbers; ``scale`` makes
    ``<x, x>`` 1. Points stay in float32 or better.
    """

    components: int
    features: int
    velocities: int
    scale: float = 1.0

    def embed(
        self, point: Float[Tensor, "*batch component coordinate"]
    ) -> Float[Tensor, "*batch feature coordinate"]:
        """The numbers on which inner products and means are taken."""
        return point

    def inner(
        self,
        x: Float[Tensor, "*#batch feature coordinate"],
        y: Float[Tensor, "*#batch feature coordinate"],
    ) -> Float[Tensor, "*#batch coordinate"]:
        """``<x, y>`` of embedded points: 1 for a point with itself."""
        return self.scale * (x * y).sum(-2)

    def mean(
        self,
        weight: Float[Tensor, "*batch query key"],
        x: Float[Tensor, "*batch key feature coordinate"],
    ) -> Float[Tensor, "*batch query feature coordinate"]:
        """``M_t = sum_u weight[t, u] x_u``: the shorter, the less the points agree."""
        with _wide_products(x):
            return torch.einsum("...tu,...ufc->...tfc", weight, x)

    @abstractmethod
    def tangent(
        self,
        x: Float[Tensor, "*batch feature coordinate"],
        ambient: Float[Tensor, "*batch feature coordinate"],
    ) -> Float[Tensor, "*batch velocity coordinate"]:
        """The part of ``ambient`` that leads along the manifold from the embedded point ``x``."""

    @abstractmethod
    def retract(
        self,
        point: Float[Tensor, "*batch component coordinate"],
        velocity: Float[Tensor, "*batch velocity coordinate"],
    ) -> Float[Tensor, "*batch component coordinate"]:
        """The point that ``velocity`` leads to: the exponential map."""

    @abstractmethod
    def turn(
        self,
        x: Float[Tensor, "*batch feature coordinate"],
        angle: Float[Tensor, "*#batch coordinate"],
    ) -> Float[Tensor, "*batch feature coordinate"]:
        """Embedded points turned by ``angle`` radians, from the left where that is a side."""

    def drive(
        self,
        x: Float[Tensor, "*batch feature coordinate"],
        force: Float[Tensor, "*batch velocity coordinate"],
    ) -> Float[Tensor, "*batch velocity coordinate"]:
        """The velocity that any ``force`` gives at ``x``."""
        return self.tangent(x, force)

    @abstractmethod
    def origin(self) -> Float[Tensor, "component 1"]:
        """The point where ``point`` starts."""

    def point(
        self, force: Float[Tensor, "*batch velocity coordinate"]
    ) -> Float[Tensor, "*batch component coordinate"]:
        """A point for any numbers: ``origin`` moved by ``force``."""
        start = self.origin().to(force).expand(*force.shape[:-2], -1, force.shape[-1])
        return self.retract(start, self.drive(self.embed(start), force))


@dataclass(frozen=True)
class Circle(Manifold):
    """Angles in radians, modulo a turn, embedded as [cos, sin].

    ``<a, b> = cos(a - b)``; at the mean [C, S], ``tangent = cos(theta) S - sin(theta) C``.
    """

    components = 1
    features = 2
    velocities = 1

    def embed(self, point: Tensor) -> Tensor:
        return _CosSin.apply(point)

    def tangent(self, x: Tensor, ambient: Tensor) -> Tensor:
        cos, sin = x.chunk(2, dim=-2)
        mean_cos, mean_sin = ambient.chunk(2, dim=-2)
        return cos * mean_sin - sin * mean_cos

    def retract(self, point: Tensor, velocity: Tensor) -> Tensor:
        moved = point + velocity
        return moved - TURN * (moved.detach() / TURN).round()

    def turn(self, x: Tensor, angle: Tensor) -> Tensor:
        cos, sin = x.chunk(2, dim=-2)
        return torch.cat(_turned(cos, sin, angle), dim=-2)

    def drive(self, x: Tensor, force: Tensor) -> Tensor:
        del x
        return force

    def origin(self) -> Tensor:
        return torch.zeros(1, 1)


@dataclass(frozen=True)
class Sphere(Manifold):
    """Unit vectors of ``n`` numbers: n = 2 is the circle, n = 4 the unit quaternions, SU(2).

    ``tangent = M - <M, x> x``; ``retract = x cos|v| + v sin|v| / |v|``, then one step towards
    length 1. ``turn`` turns pairs of components: of quaternions, a factor ``exp(i angle)`` from the
    left.

    Raises ``ValueError`` for n below 2.
    """

    n: int

    def __post_init__(self) -> None:
        _check_size("Sphere(n): unit vectors", self.n, 2)

    @property
    def components(self) -> int:  # type: ignore[override]
        """n."""
        return self.n

    features = velocities = components  # type: ignore[assignment]

    def tangent(self, x: Tensor, ambient: Tensor) -> Tensor:
        return ambient - self.inner(x, ambient).unsqueeze(-2) * x

    def retract(self, point: Tensor, velocity: Tensor) -> Tensor:
        cos, sinc = _cos_and_sinc(velocity.square().sum(-2, keepdim=True))
        moved = point * cos + velocity * sinc
        return moved * (1.5 - 0.5 * moved.square().sum(-2, keepdim=True))

    def turn(self, x: Tensor, angle: Tensor) -> Tensor:
        paired = self.n // 2 * 2
        first, second = x[..., 0:paired:2, :], x[..., 1:paired:2, :]
        pairs = torch.stack(_turned(first, second, angle), dim=-2).flatten(-3, -2)
        return torch.cat([pairs, x[..., paired:, :]], dim=-2)

    def origin(self) -> Tensor:
        return torch.eye(self.n)[:, :1]


class _Matrices(Manifold):
    """Square matrices X with ``X^H X = I``; ``<X, Y> = Re tr(X^H Y) / n``.

    ``tangent = X (X^H M - M^H X) / 2``; ``retract = X exp(X^H V)``, then one Newton-Schulz step
    ``X (3 I - X^H X) / 2``.
    """

    n: int

    @property
    def scale(self) -> float:  # type: ignore[override]
        """1 / n."""
        return 1.0 / self.n

    @abstractmethod
    def matrix(self, x: Tensor) -> Tensor:
        """(..., component, coordinate) as matrices (..., coordinate, n, n)."""

    @abstractmethod
    def numbers(self, matrix: Tensor) -> Tensor:
        """The inverse of ``matrix``."""

    def tangent(self, x: Tensor, ambient: Tensor) -> Tensor:
        point = self.matrix(x)
        with _wide_products(x):
            return self.numbers(point @ _skew(point.mH @ self.matrix(ambient)))

    def retract(self, point: Tensor, velocity: Tensor) -> Tensor:
        start = self.matrix(point)
        with _wide_products(point):
            rotation = torch.linalg.matrix_exp(_skew(start.mH @ self.matrix(velocity)))
            moved = start @ rotation
            return self.numbers(1.5 * moved - 0.5 * moved @ (moved.mH @ moved))

    def origin(self) -> Tensor:
        return self.numbers(self.matrix(torch.zeros(self.components, 1)) + torch.eye(self.n))


@dataclass(frozen=True)
class SpecialOrthogonal(_Matrices):
    """Rotations SO(n), kept as n^2 numbers by rows.

    ``turn`` turns pairs of rows: a rotation from the left. Raises ``ValueError`` for n below 2.
    """

    n: int

    def __post_init__(self) -> None:
        _check_size("SpecialOrthogonal(n): rotations", self.n, 2)

    @property
    def components(self) -> int:  # type: ignore[override]
        """n^2."""
        return self.n**2

    features = velocities = components  # type: ignore[assignment]

    def matrix(self, x: Tensor) -> Tensor:
        return x.mT.unflatten(-1, (self.n, self.n))

    def numbers(self, matrix: Tensor) -> Tensor:
        return matrix.flatten(-2).mT

    def turn(self, x: Tensor, angle: Tensor) -> Tensor:
        rows, paired = x.unflatten(-2, (self.n, self.n)), self.n // 2 * 2
        first, second = rows[..., 0:paired:2, :, :], rows[..., 1:paired:2, :, :]
        pairs = torch.stack(_turned(first, second, angle.unsqueeze(-2)), dim=-3).flatten(-4, -3)
        return torch.cat([pairs, rows[..., paired:, :, :]], dim=-3).flatten(-3, -2)


@dataclass(frozen=True)
class Unitary(_Matrices):
    """Unitary matrices U(n), kept as 2 n^2 numbers: by rows, real part before imaginary part.

    n = 1 is the circle. ``turn`` is a factor ``exp(i angle)``. Raises ``ValueError`` for n below 1.
    """

    n: int

    def __post_init__(self) -> None:
        _check_size("Unitary(n): unitary matrices", self.n, 1)

    @property
    def components(self) -> int:  # type: ignore[override]
        """2 n^2."""
        return 2 * self.n**2

    features = velocities = components  # type: ignore[assignment]

    def matrix(self, x: Tensor) -> Tensor:
        return torch.view_as_complex(x.mT.unflatten(-1, (self.n, self.n, 2)).contiguous())

    def numbers(self, matrix: Tensor) -> Tensor:
        return torch.view_as_real(matrix).flatten(-3).mT

    def turn(self, x: Tensor, angle: Tensor) -> Tensor:
        parts = _turned(x[..., ::2, :], x[..., 1::2, :], angle)
        return torch.stack(parts, dim=-2).flatten(-3, -2)


class _CosSin(torch.autograd.Function):
    """[cos, sin] along the components, whose derivative [-sin, cos] is there already."""

    generate_vmap_rule = True

    @staticmethod
    def forward(point: Tensor) -> Tensor:
        return torch.cat([point.cos(), point.sin()], dim=-2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        cos, sin = ctx.saved_tensors[0].chunk(2, dim=-2)
        of_cos, of_sin = gradient.chunk(2, dim=-2)
        return of_sin * cos - of_cos * sin


def _wide_products(x: Tensor) -> torch.autocast:
    """Products as wide as their factors: autocast would round points, whose exponential is NaN."""
    return torch.autocast(x.device.type, enabled=False)


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs (..., any, coordinate) turned by angles (..., coordinate)."""
    cos, sin = angle.cos().unsqueeze(-2), angle.sin().unsqueeze(-2)
    return x * cos - y * sin, y * cos + x * sin


def _skew(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix - matrix.mH)


def _cos_and_sinc(square: Tensor) -> tuple[Tensor, Tensor]:
    """cos(r) and sin(r) / r of r^2, with finite gradients at 0."""
    small = square < SMALL_SQUARE
    r = square.masked_fill(small, 1.0).sqrt()
    cos = torch.where(small, 1 - square / 2 + square**2 / 24 - square**3 / 720, r.cos())
    sinc = torch.where(small, 1 - square / 6 + square**2 / 120 - square**3 / 5040, r.sin() / r)
    return cos, sinc


def _check_size(what: str, n: int, least: int) -> None:
    if n < least:
        raise ValueError(f"{what} need n of at least {least}; it is {n}")


def manifold(name: str) -> Manifold:
    """The manifold by its name: circle, sphere-N, so-N or u-N, with the number n.

    Raises ``ValueError`` for any other name.
    """
    kind, _, size = name.partition("-")
    makers = {"sphere": Sphere, "so": SpecialOrthogonal, "u": Unitary}
    if name == "circle":
        return Circle()
    if kind in makers and size.isdecimal():
        return makers[kind](int(size))
    raise ValueError(
        "a manifold is circle, sphere-N, so-N or u-N with a number N, as in sphere-4; it is "
        f"{name!r}"
    )
