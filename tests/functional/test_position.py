"""Positions: conventions, encodings and constraints by their formulas; locality on every path."""

import math
import statistics

import pytest
import torch
from torch import Tensor

from resonant.functional import (
    Causal,
    Full,
    Lift,
    Mechanism,
    Neighborhood,
    Scalar,
    attend,
    attention_weights,
    energy_gate,
    gaussian_locality,
    krause_lift,
    mechanism,
    morlet_constraints,
    morlet_encoding,
    oscillate,
    oscillator_frequencies,
    record_paths,
    rotary_frequencies,
    rotate,
    sink_lift,
    sinusoidal_encoding,
    softmax_lift,
)
from resonant.functional.attend.kernel import fold_pair, fused_kernel
from resonant.functional.neighborhood import positions, visible
from resonant.testing import LAWS
from tests.laws import over_budget, plain_attention

LENGTH = 37


def test_rotation_turns_pairs_by_either_convention() -> None:
    x, angle = torch.randn(1, 1, 5, 8), torch.randn(5, 4)
    half, interleaved = (rotate(x, angle, convention=c) for c in ("half", "interleaved"))
    for c in range(4):
        turn = torch.polar(torch.ones(5), angle[:, c])
        by_half = torch.complex(x[..., c], x[..., c + 4]) * turn
        torch.testing.assert_close(torch.complex(half[..., c], half[..., c + 4]), by_half)
        neighbours = torch.complex(x[..., 2 * c], x[..., 2 * c + 1]) * turn
        got = torch.complex(interleaved[..., 2 * c], interleaved[..., 2 * c + 1])
        torch.testing.assert_close(got, neighbours)


def test_rotated_scores_depend_on_the_distance_alone() -> None:
    x = torch.randn(1, 1, 1, 8, dtype=torch.float64).expand(1, 1, LENGTH, 8)
    angle = torch.arange(LENGTH).unsqueeze(-1) * rotary_frequencies(8)
    for convention in ("half", "interleaved"):
        turned = rotate(x, angle, convention=convention)
        scores = (turned @ turned.mT)[0, 0]
        torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])


def test_sinusoids_by_their_formula() -> None:
    position = torch.tensor([[0, 1, 5, 1000]])
    encoding = sinusoidal_encoding(position, 8)
    for t, row in zip(position[0].tolist(), encoding[0], strict=True):
        for c in range(4):
            angle = t / 10_000 ** (2 * c / 8)
            assert row[2 * c].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert row[2 * c + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def published_start(half: int) -> tuple[Tensor, Tensor]:
    omega = torch.logspace(0, math.log10(0.99 * math.pi), half)
    return omega, 5 / omega


def test_morlet_by_its_formula() -> None:
    omega, sigma = torch.tensor([1.0, 2.5]), torch.tensor([5.0, 2.0])
    encoding = morlet_encoding(torch.tensor([0, 1, 4]), omega, sigma)
    for t, row in zip((0, 1, 4), encoding, strict=True):
        for c in range(2):
            size = math.exp(-(t**2) / (2 * sigma[c].item() ** 2))
            assert row[2 * c].item() == pytest.approx(size * math.cos(omega[c].item() * t))
            assert row[2 * c + 1].item() == pytest.approx(size * math.sin(omega[c].item() * t))


def test_morlet_constraints_hold_whatever_was_learned() -> None:
    omega = torch.tensor([-1.0, 0.0, 0.5, 3.0, 50.0, 1.0])
    sigma = torch.tensor([-3.0, 1e-4, 2.0, 1.0, 80.0, 100.0])
    held_omega, held_sigma = morlet_constraints(omega, sigma)
    assert (held_omega <= 0.95 * math.pi * (1 + 1e-6)).all()
    assert (held_omega * held_sigma >= 5 * (1 - 1e-6)).all()
    assert held_omega[-1].item() == 1.0
    assert held_sigma[-1].item() == 100.0


def test_morlet_as_published_has_no_positions_beyond_fifteen() -> None:
    encoding = morlet_encoding(torch.arange(64), *morlet_constraints(*published_start(32)))
    size = encoding.norm(dim=-1) / encoding[0].norm()
    assert size[16:].max() < 2e-3
    assert size[8] > 0.1


def plain_locality(lift: Lift, ell: Tensor, neighborhood: Neighborhood) -> Tensor:
    """Logits with the difference formed first, as 64-bit numbers."""
    queries, keys = positions(lift.query.shape[2], lift.key.shape[2], lift.query.device)
    key, value = (x.double().repeat_interleave(lift.groups, dim=1) for x in (lift.key, lift.value))
    logits = lift.query.double() @ key.mT
    distance = (queries.unsqueeze(-1) - keys).double()
    logits = logits - distance.square() / (2 * ell.double()[:, None, None].square())
    allowed = visible(neighborhood, queries, keys)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    return logits.softmax(-1) @ value


@pytest.mark.parametrize("ell", [0.4, 3.7, 64.0, 1e6])
@pytest.mark.parametrize("neighborhood", [Causal(), Causal(window=9)])
def test_locality_is_its_definition(ell: float, neighborhood: Neighborhood) -> None:
    query = torch.randn(2, 4, 150, 8, dtype=torch.float64)
    key, value = (torch.randn(2, 2, 150, 8, dtype=torch.float64) for _ in range(2))
    widths = torch.tensor([ell, 2 * ell, ell, 3 * ell], dtype=torch.float64)
    lift = softmax_lift(query, key, value)
    with record_paths() as taken:
        ours = attend(gaussian_locality(lift, widths), neighborhood)
    assert taken == ["chunked"]
    torch.testing.assert_close(ours, plain_locality(lift, widths, neighborhood))


def test_an_infinite_width_adds_exactly_nothing() -> None:
    for make in (softmax_lift, lambda q, k, v: krause_lift(q, k, v, 2.5)):
        lift = make(*(torch.randn(2, 2, LENGTH, 8) for _ in range(3)))
        for ell in (math.inf, torch.full((2,), math.inf)):
            wide = gaussian_locality(lift, ell)
            for neighborhood in (Causal(), Causal(5)):
                plain, ours = (attend(x, neighborhood, path="materialized") for x in (lift, wide))
                assert torch.equal(plain, ours)


def test_gate_and_locality_off_in_one_lift_are_plain_softmax() -> None:
    plain = softmax_lift(*(torch.randn(2, 2, LENGTH, 8) for _ in range(3)))
    both = energy_gate(gaussian_locality(plain, math.inf), torch.randn(2, 2, LENGTH), 0.0, 0.3)
    other_order = gaussian_locality(
        energy_gate(plain, torch.randn(2, 2, LENGTH), 1.0, -math.inf), math.inf
    )
    for neighborhood in (Full(), Causal(), Causal(5)):
        for top_k in (None, 3):
            expected, ours, theirs = (
                attend(x, neighborhood, top_k=top_k, path="materialized")
                for x in (plain, both, other_order)
            )
            assert torch.equal(ours, expected)
            assert torch.equal(theirs, expected)
            automatic = attend(both, neighborhood, top_k=top_k)
            torch.testing.assert_close(automatic, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("ell", [3.7, 23.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_locality_keeps_the_budget_at_8192_tokens(ell: float, dtype: torch.dtype) -> None:
    """Compared on the last 64 queries, whose positions are the largest."""
    shares = []
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        query, key, value = (
            torch.randn(1, 2, 8192, 8, generator=generator).to(dtype) for _ in range(3)
        )
        widths = torch.tensor([ell, 1.3 * ell])
        lift = gaussian_locality(softmax_lift(query, key, value), widths)
        ours = attend(lift, Causal())[:, :, -64:]
        part = softmax_lift(query[:, :, -64:], key, value)
        exact = plain_locality(part, widths, Causal())
        distance = (torch.arange(8128, 8192).unsqueeze(-1) - torch.arange(8192)).float()
        penalty = -distance.square() / (2 * widths[:, None, None].square())
        allowed = distance >= 0
        tensors = (query[:, :, -64:], key, value)
        plain = plain_attention("softmax", tensors, {}, allowed, penalty.to(dtype))
        shares.append(over_budget(ours, plain, exact, dtype, 2.0))
    assert statistics.median(shares) <= 1.0, shares


def test_lifted_as_it_stands_it_does_not() -> None:
    """The test above can fail: without moving the origin the Gaussian cancels."""
    query, key, value = (torch.randn(1, 2, 4096, 8) for _ in range(3))
    widths = torch.tensor([3.7, 4.81])
    lift = gaussian_locality(softmax_lift(query, key, value), widths)
    naive = fused_kernel(fold_pair(lift))[:, :, -64:]
    part = softmax_lift(query[:, :, -64:], key, value)
    queries, keys = positions(64, 4096, query.device)
    distance = (queries.unsqueeze(-1) - keys).float()
    penalty = -distance.square() / (2 * widths[:, None, None].square())
    tensors = (query[:, :, -64:], key, value)
    plain = plain_attention("softmax", tensors, {}, None, penalty)
    exact = plain_locality(part, widths, Full())
    assert over_budget(naive, plain, exact, torch.float32, 2.0) > 10


def local(name: str, ell: float) -> Mechanism:
    """A mechanism with a learned width per head."""
    plain = mechanism(name)

    def lift(query: Tensor, key: Tensor, value: Tensor, ell: Tensor, **own: Tensor) -> Lift:
        return gaussian_locality(plain.lift(query, key, value, **own), ell)

    scalars = {**plain.scalars, "ell": Scalar(ell, math.inf, name)}
    return Mechanism(f"{name} + locality {ell}", lift, scalars)


@pytest.mark.parametrize("ell", [0.7, 3.7])
@pytest.mark.parametrize("name", ["softmax", "krause", "softmax-sink"])
def test_gradients_of_locality_on_any_mechanism(name: str, ell: float) -> None:
    LAWS["gradients"](local(name, ell))


@pytest.mark.parametrize("ell", [0.7, 3.7])
@pytest.mark.parametrize("name", ["softmax", "krause", "softmax-sink"])
def test_blind_rows_are_zero_under_locality(name: str, ell: float) -> None:
    """The law of that name demands the fused path, which a Gaussian does not take."""
    of = local(name, ell)
    inputs = torch.randn(2, 4, 9, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    scalars = {n: torch.full((4,), s.start).requires_grad_() for n, s in of.scalars.items()}
    for path in ("chunked", "materialized"):
        output = attend(of.lift(*inputs, **scalars), Causal(), path=path)
        assert output[:, :, :4].eq(0).all()
        for gradient in torch.autograd.grad(output.square().sum(), list(scalars.values())):
            assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["softmax", "krause", "softmax-sink"])
@pytest.mark.parametrize("ell", [0.7, 3.7, 40.0])
@pytest.mark.parametrize("top_k", [None, 4])
def test_chunks_are_the_materialized_form_in_value_and_gradient(
    name: str, ell: float, top_k: int | None
) -> None:
    of = local(name, ell)
    for queries, keys in ((1, 1), (129, 129), (7, 23), (23, 7), (1, 129)):
        for neighborhood in (Causal(), Causal(window=5)):
            results = []
            for path in ("chunked", "materialized"):
                torch.manual_seed(1)
                shapes = (4, queries), (2, keys), (2, keys)
                tensors = [
                    torch.randn(2, *s, 8, dtype=torch.float64).requires_grad_() for s in shapes
                ]
                scalars = {
                    n: (s.start + 0.1 * torch.rand(4, dtype=torch.float64)).requires_grad_()
                    for n, s in of.scalars.items()
                }
                lift = of.lift(*tensors, **scalars)
                output = attend(lift, neighborhood, top_k=top_k, path=path)
                inputs = [*tensors, *scalars.values()]
                gradients = torch.autograd.grad(output.square().sum(), inputs, allow_unused=True)
                results.append([output, *(g for g in gradients if g is not None)])
            for ours, theirs in zip(*results, strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_the_future_changes_no_bit_under_locality() -> None:
    for ell in (0.7, 3.7):
        torch.manual_seed(0)
        tensors = [torch.randn(1, 2, 150, 8) for _ in range(3)]
        later = [x.clone() for x in tensors]
        for x in later:
            x[:, :, 100:] = 1e3 * torch.randn_like(x[:, :, 100:])
        for neighborhood in (Causal(), Causal(9)):
            for path in ("chunked", "materialized"):
                before, after = (
                    attend(gaussian_locality(softmax_lift(*x), ell), neighborhood, path=path)
                    for x in (tensors, later)
                )
                assert torch.equal(before[:, :, :100], after[:, :, :100])


def test_a_sink_is_compared_with_the_whole_logit() -> None:
    """Folding a Gaussian drops a constant of the row, which a sink would notice."""
    query, key, value = (torch.randn(1, 2, 40, 8, dtype=torch.float64) for _ in range(3))
    lift = gaussian_locality(sink_lift(query, key, value, 0.5), 3.7)
    folded, whole = (attend(lift, Causal(), path=p) for p in ("chunked", "materialized"))
    torch.testing.assert_close(folded, whole)
    assert (attention_weights(lift, Causal()).sum(-1) < 1).all()


@pytest.mark.parametrize("shape", [(40, 1), (1, 1, 40, 1), (1, 4, 1, 1), (40, 40)])
def test_a_sink_stands_beside_any_mask(shape: tuple[int, ...]) -> None:
    query = torch.randn(1, 4, 40, 8, dtype=torch.float64)
    key, value = (torch.randn(1, 2, 40, 8, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(shape) > 0.3
    lift = sink_lift(query, key, value, torch.randn(4))
    for neighborhood in (Full(), Causal(), Causal(5)):
        ours, whole = (
            attend(lift, neighborhood, attn_mask=mask, path=path)
            for path in ("auto", "materialized")
        )
        torch.testing.assert_close(ours, whole)


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused_says_why() -> None:
    lift = softmax_lift(*(torch.randn(1, 2, 9, 8) for _ in range(3)))
    with pytest.raises(ValueError, match="ell is a width in positions and must be above 0"):
        gaussian_locality(lift, 0.0)
    with pytest.raises(ValueError, match="give query_position and key_position, or neither"):
        gaussian_locality(lift, 1.0, key_position=torch.arange(9))
    with pytest.raises(ValueError, match="convention is half or interleaved; it is 'neox'"):
        rotate(lift.query, torch.zeros(9, 4), convention="neox")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dim must be even, it is 7"):
        sinusoidal_encoding(torch.arange(3), 7)
    with pytest.raises(ValueError, match="the rotary base must be above 1"):
        rotary_frequencies(8, 1.0)
    with pytest.raises(ValueError, match="a Gaussian is lifted block by block"):
        attend(gaussian_locality(lift, 2.0), path="fused")


def oscillating(name: str, count: int = 3) -> Mechanism:
    """A mechanism whose heads listen by oscillators, every head with another delay."""
    plain = mechanism(name)
    omega = oscillator_frequencies(count)

    def lift(query: Tensor, key: Tensor, value: Tensor, swing: Tensor, **own: Tensor) -> Lift:
        found = plain.lift(query, key, value, **own)
        phase = -torch.arange(len(swing)).unsqueeze(-1) * omega
        return oscillate(found, omega, swing.unsqueeze(-1).expand(-1, count), phase)

    return Mechanism(
        f"{name} + oscillators", lift, {**plain.scalars, "swing": Scalar(0.7, 0.0, name)}
    )


@pytest.mark.parametrize("name", ["softmax", "krause", "softmax-sink"])
@pytest.mark.parametrize(
    "law", sorted(set(LAWS) - {"permutation", "padding", "cache", "off", "ties"})
)
def test_laws_of_oscillators_on_any_mechanism(name: str, law: str) -> None:
    LAWS[law](oscillating(name))


def test_oscillators_add_cosines_of_the_distance() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, n, t, 8).double() for n, t in ((4, 5), (2, 9), (2, 9)))
    omega, swing, phase = torch.tensor([3.1, 0.5]), torch.randn(4, 2), torch.randn(4, 2)
    lift = softmax_lift(query, key, value)
    found = attention_weights(oscillate(lift, omega, swing, phase))
    t, u = torch.arange(4, 9).double(), torch.arange(9).double()  # the last query at the last key
    away = (t[:, None] - u).unsqueeze(-1)
    wave = torch.cos(omega * away + phase[:, None, None]) * swing[:, None, None]
    logits = query @ key.repeat_interleave(2, 1).mT / 8**0.5 + wave.sum(-1)
    torch.testing.assert_close(found, logits.softmax(-1), atol=1e-6, rtol=1e-6)
    nothing = attention_weights(oscillate(lift, omega, torch.zeros(4, 2), phase))
    torch.testing.assert_close(nothing, attention_weights(lift), atol=1e-15, rtol=1e-14)


def test_oscillators_far_away_are_what_they_are_near() -> None:
    """Angles are float64: a hundred million positions on, the weights are the same to 1e-6."""
    torch.manual_seed(0)
    heads = (torch.randn(1, 4, 30, 8) for _ in range(3))
    lift, omega = softmax_lift(*heads), oscillator_frequencies(8)
    options = {"amplitude": torch.full((4, 8), 0.7), "phase": torch.randn(4, 8)}
    near, far = (
        attention_weights(
            oscillate(lift, omega, **options, query_position=places, key_position=places)
        )
        for places in (torch.arange(30), torch.arange(30) + 10**8)
    )
    torch.testing.assert_close(near, far, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_what_oscillators_refuse() -> None:
    lift = softmax_lift(*(torch.randn(1, 4, 9, 8) for _ in range(3)))
    omega, good = oscillator_frequencies(2), torch.zeros(4, 2)
    assert oscillator_frequencies(1).tolist() == [pytest.approx(math.pi)]
    for wrong, says in (
        (lambda: oscillator_frequencies(0), "number of oscillators, at least 1; it is 0"),
        (lambda: oscillator_frequencies(3, 1), "at least 2 positions, and finite; it is 1"),
        (lambda: oscillate(lift, omega, torch.zeros(3, 2), good), "amplitude is .head, osc"),
        (lambda: oscillate(lift, omega, good, torch.zeros(4, 3)), r"phase is .* \(4, 3\)"),
        (
            lambda: oscillate(lift, omega, good, good, key_position=torch.arange(9)),
            "give query_position and key_position, or neither",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            wrong()
