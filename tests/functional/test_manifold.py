"""Laws of the manifolds: points stay on them, groups act, limits and first orders."""

import math

import pytest
import torch
from torch import Tensor

from resonant.functional import Causal
from resonant.functional.kuramoto import kuramoto_coupling
from resonant.functional.manifold import (
    Circle,
    Manifold,
    SpecialOrthogonal,
    Sphere,
    Unitary,
    manifold,
)

NAMES = ["circle", "sphere-2", "sphere-3", "sphere-4", "so-2", "so-3", "so-4", "u-1", "u-2", "u-3"]
BATCH, HEADS, TOKENS, COORDINATES = 2, 3, 11, 5


def points(of: Manifold, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, HEADS, TOKENS, of.velocities, COORDINATES)
    return of.point(2.0 * torch.randn(shape, generator=generator, dtype=dtype))


def off_manifold(of: Manifold, point: Tensor) -> float:
    """The largest departure from length 1, or from X^H X = I."""
    x = of.embed(point)
    if isinstance(of, (SpecialOrthogonal, Unitary)):
        matrix = of.matrix(x)
        return (matrix.mH @ matrix - torch.eye(of.n)).abs().max().item()
    return (x.square().sum(-2) - 1).abs().max().item()


@pytest.mark.parametrize("name", NAMES)
def test_points_are_on_the_manifold_and_alike_to_themselves(name: str) -> None:
    of = manifold(name)
    drawn = points(of)
    assert drawn.shape[-2:] == (of.components, COORDINATES)
    assert of.embed(drawn).shape[-2:] == (of.features, COORDINATES)
    assert off_manifold(of, drawn) < 1e-13
    x = of.embed(drawn)
    torch.testing.assert_close(of.inner(x, x), torch.ones_like(x[..., 0, :]))
    assert drawn.flatten(0, 2).std(0).min() > 0.05  # and they differ
    if isinstance(of, SpecialOrthogonal):
        assert torch.linalg.det(of.matrix(drawn)).min() > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_a_velocity_is_tangent_and_retraction_follows_it(name: str) -> None:
    of = manifold(name)
    drawn = points(of)
    x = of.embed(drawn)
    velocity = of.tangent(x, torch.randn_like(x))

    def along(step: float) -> Tensor:
        return of.embed(of.retract(drawn, step * velocity))

    forward = (along(1e-5) - along(-1e-5)) / 2e-5
    assert of.inner(x, forward).abs().max() < 1e-8  # stays at length 1
    if of.velocities == of.features:
        torch.testing.assert_close(forward, velocity, atol=1e-8, rtol=1e-6)
        torch.testing.assert_close(of.tangent(x, velocity), velocity)  # a projection
    torch.testing.assert_close(along(0.0), x)


@pytest.mark.parametrize("name", NAMES)
def test_the_energy_falls_along_the_update(name: str) -> None:
    """For a fixed symmetric coupling the update is minus the gradient of -1/2 sum A <X_t, X_u>."""
    of = manifold(name)
    drawn = points(of)[0, 0]
    coupling = torch.rand(TOKENS, TOKENS, dtype=torch.float64)
    coupling = coupling + coupling.mT
    weight = torch.randn(TOKENS, of.velocities, COORDINATES, dtype=torch.float64)

    def energy(point: Tensor) -> Tensor:
        x = of.embed(point)
        inner = of.scale * torch.einsum("tfc,ufc->tuc", x, x)
        return -0.5 * (coupling.unsqueeze(-1) * inner).sum()

    x = of.embed(drawn)
    update = of.tangent(x, of.mean(coupling, x))
    direction = of.tangent(x, weight) if of.velocities == of.features else weight
    step = 1e-5
    numeric = (
        energy(of.retract(drawn, step * direction)) - energy(of.retract(drawn, -step * direction))
    ) / (2 * step)
    expected = -of.scale * (update * direction).sum()
    torch.testing.assert_close(numeric, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n[:2] == "u-" else ()) for n in NAMES]
)
def test_a_thousand_steps_stay_on_the_manifold_in_float32(name: str) -> None:
    of = manifold(name)
    point = points(of, dtype=torch.float32)[:, :, :4]
    for _ in range(1000):
        drive = 0.3 * torch.randn(*point.shape[:-2], of.velocities, COORDINATES)
        velocity = kuramoto_coupling(point, manifold=of) + of.drive(of.embed(point), drive)
        point = of.retract(point, velocity)
    assert point.dtype == torch.float32
    assert off_manifold(of, point) < 1e-5
    if isinstance(of, Circle):
        assert point.abs().max() <= math.pi + 1e-6  # wrapped


def sides(of: Manifold, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Pairs (left, right) of group elements as matrices on features, the other side left alone."""
    n = of.n  # type: ignore[attr-defined]
    if isinstance(of, Sphere):  # quaternions: both sides are rotations of R^4
        return [
            (_quaternion(generator, left=True), torch.eye(4).double()),
            (_quaternion(generator, left=False), torch.eye(4).double()),
        ]
    return [(_element(of, generator), torch.eye(n)), (torch.eye(n), _element(of, generator))]


def _element(of: Manifold, generator: torch.Generator) -> Tensor:
    force = torch.randn(of.velocities, 1, generator=generator, dtype=torch.float64)
    return of.matrix(of.point(force))[0]  # type: ignore[attr-defined]


def _quaternion(generator: torch.Generator, *, left: bool) -> Tensor:
    """Multiplication by a random unit quaternion from one side, as a matrix."""
    q = torch.randn(4, generator=generator, dtype=torch.float64)
    return multiplication(q / q.norm(), left=left)


def multiplication(q: Tensor, *, left: bool) -> Tensor:
    w, x, y, z = q.tolist()
    s = 1.0 if left else -1.0
    rows = [[w, -x, -y, -z], [x, w, -s * z, s * y], [y, s * z, w, -s * x], [z, -s * y, s * x, w]]
    return torch.tensor(rows, dtype=torch.float64)


def act(of: Manifold, point: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Every point multiplied from both sides."""
    if isinstance(of, Sphere):
        return torch.einsum("fg,...gc->...fc", left, point)
    matrix = of.matrix(point)  # type: ignore[attr-defined]
    return of.numbers(left.to(matrix.dtype) @ matrix @ right.to(matrix.dtype))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["sphere-4", "so-3", "so-4", "u-1", "u-2", "u-3"])
def test_group_elements_from_either_side_change_no_score_and_carry_the_update(name: str) -> None:
    of = manifold(name)
    drawn = points(of)
    gate = torch.rand(1, HEADS, 1, COORDINATES, dtype=torch.float64) + 0.5
    update = kuramoto_coupling(drawn, gate, manifold=of, neighborhood=Causal())
    for left, right in sides(of, torch.Generator().manual_seed(1)):
        moved = act(of, drawn, left, right)
        torch.testing.assert_close(
            of.inner(moved[:, :, :1], moved), of.inner(drawn[:, :, :1], drawn)
        )
        ours = kuramoto_coupling(moved, gate, manifold=of, neighborhood=Causal())
        torch.testing.assert_close(ours, act(of, update, left, right))


@pytest.mark.parametrize("name", ["sphere-3", "sphere-5"])
def test_spheres_carry_the_update_along_any_rotation(name: str) -> None:
    of = manifold(name)
    assert isinstance(of, Sphere)
    drawn = points(of)
    rotation = torch.linalg.qr(torch.randn(of.n, of.n, dtype=torch.float64)).Q
    turned = torch.einsum("fg,...gc->...fc", rotation, drawn)
    update = kuramoto_coupling(drawn, manifold=of)
    ours = kuramoto_coupling(turned, manifold=of)
    torch.testing.assert_close(ours, torch.einsum("fg,...gc->...fc", rotation, update))


@pytest.mark.parametrize(("name", "kept"), [("sphere-4", 1), ("so-3", 1), ("u-2", 0), ("u-2", 1)])
def test_a_drift_from_the_left_keeps_the_right(name: str, kept: int) -> None:
    """Drift turns from the left, so that factors from the right stay a symmetry (both on U(n))."""
    of = manifold(name)
    drawn, omega = points(of), torch.rand(COORDINATES, dtype=torch.float64)
    update = kuramoto_coupling(drawn, manifold=of, omega=omega)
    generator = torch.Generator().manual_seed(1)
    for side, (left, right) in enumerate(sides(of, generator)):
        moved = act(of, drawn, left, right)
        apart = kuramoto_coupling(moved, manifold=of, omega=omega) - act(of, update, left, right)
        if side == kept:
            assert apart.abs().max() < 1e-12
        elif name != "u-2":
            assert apart.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["sphere-2", "u-1", "so-2"])
def test_the_circle_in_other_clothes(name: str) -> None:
    """n = 2 is the closed form exactly: scores, drift, update and retraction."""
    of = manifold(name)
    phase = torch.randn(BATCH, HEADS, TOKENS, COORDINATES, dtype=torch.float64)
    gate = torch.randn(BATCH, HEADS, TOKENS, COORDINATES, dtype=torch.float64)
    omega, lag = torch.rand(COORDINATES, dtype=torch.float64), torch.randn_like(phase)
    cos, sin = phase.cos(), phase.sin()
    parts = [cos, -sin, sin, cos] if name == "so-2" else [cos, sin]
    point = torch.stack(parts, dim=-2)
    how = {"omega": omega, "lag": lag, "neighborhood": Causal(6), "top_k": 4}
    velocity = kuramoto_coupling(phase, gate, **how)  # type: ignore[arg-type]
    moved = of.retract(point, kuramoto_coupling(point, gate, manifold=of, **how))  # type: ignore[arg-type]
    expected = phase + velocity
    torch.testing.assert_close(moved[..., 0, :], expected.cos())
    torch.testing.assert_close(moved[..., -2 if name == "so-2" else -1, :], expected.sin())


def axis_and_angle(rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Of a rotation matrix (3, 3)."""
    skew = (rotation - rotation.mT) / 2
    vector = torch.stack([skew[2, 1], skew[0, 2], skew[1, 0]])
    return vector / vector.norm(), torch.atan2(vector.norm(), (rotation.trace() - 1) / 2)


def rotation_of(q: Tensor) -> Tensor:
    """The rotation v -> q v q* of a unit quaternion."""
    full = multiplication(q, left=True) @ multiplication(
        q * torch.tensor([1, -1, -1, -1]), left=False
    )
    return full[1:, 1:]


@pytest.mark.parametrize("apart", [0.02, 0.1, 0.5])
def test_quaternions_and_rotations_turn_about_the_same_axis(apart: float) -> None:
    """One neighbour of weight 1: the same axis and sense, angles that agree to first order."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        q = torch.randn(4, generator=generator, dtype=torch.float64)
        q = q / q.norm()
        axis = torch.randn(3, generator=generator, dtype=torch.float64)
        axis = axis / axis.norm()
        step = torch.cat([torch.tensor([math.cos(apart / 2)]), math.sin(apart / 2) * axis])
        p = multiplication(step, left=True) @ q
        assert q @ p > 0
        sphere, rotations = Sphere(4), SpecialOrthogonal(3)
        moved = sphere.retract(q[:, None], sphere.tangent(q[:, None], p[:, None]))[:, 0]
        ours = rotation_of(multiplication(moved, left=True) @ (q * torch.tensor([1, -1, -1, -1])))
        start, goal = (rotations.numbers(rotation_of(x)[None]) for x in (q, p))
        turned = rotations.retract(start, rotations.tangent(start, goal))
        theirs = rotations.matrix(turned)[0] @ rotation_of(q).mT
        axis_q, angle_q = axis_and_angle(ours)
        axis_r, angle_r = axis_and_angle(theirs)
        torch.testing.assert_close(axis_q, axis, atol=1e-7, rtol=0)
        torch.testing.assert_close(axis_r, axis, atol=1e-7, rtol=0)
        # 2 sin(a / 2) and sin(a): both a, up to terms of third order
        assert abs(angle_q.item() - angle_r.item()) < apart**3
        torch.testing.assert_close(angle_q.item(), 2 * math.sin(apart / 2), atol=1e-9, rtol=0)
        torch.testing.assert_close(angle_r.item(), math.sin(apart), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    of = manifold(name)
    force = 0.7 * torch.randn(1, 1, 3, of.velocities, 2, dtype=torch.float64)
    gate = torch.randn(1, 1, 3, 2, dtype=torch.float64)

    def moved(force: Tensor, gate: Tensor) -> Tensor:
        point = of.point(force)
        return of.retract(point, kuramoto_coupling(point, gate, manifold=of))

    inputs = (force.requires_grad_(), gate.requires_grad_())
    assert torch.autograd.gradcheck(moved, inputs, fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_moves_at_velocity_zero_and_gradients_are_finite(name: str) -> None:
    of = manifold(name)
    point = points(of)[0, 0].detach()
    velocity = torch.zeros(TOKENS, of.velocities, COORDINATES, dtype=torch.float64)
    moved = of.retract(point, velocity.requires_grad_())
    torch.testing.assert_close(of.embed(moved), of.embed(point))
    (gradient,) = torch.autograd.grad((moved * torch.randn_like(moved)).sum(), velocity)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_names_and_sizes() -> None:
    assert manifold("sphere-4") == Sphere(4)
    assert manifold("u-2").components == 8
    for wrong in ("torus", "sphere", "sphere-x", "so--3", "circle-2"):
        with pytest.raises(ValueError, match=r"a manifold is circle, sphere-N, so-N or u-N"):
            manifold(wrong)
    with pytest.raises(ValueError, match=r"unit vectors need n of at least 2; it is 1"):
        Sphere(1)
    with pytest.raises(ValueError, match=r"rotations need n of at least 2; it is 0"):
        SpecialOrthogonal(0)
