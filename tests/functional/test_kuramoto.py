"""Kuramoto coupling on the circle: the direct formula, its laws, paths and precision."""

import itertools
import math
import statistics

import pytest
import torch
from torch import Tensor

from resonant.functional import (
    Causal,
    Full,
    Lift,
    attend,
    attention_weights,
    energy_gate,
    gaussian_locality,
    record_paths,
    rotary_frequencies,
)
from resonant.functional.kuramoto import BETA, coupling_lift, kuramoto_coupling, kuramoto_lift
from resonant.functional.manifold import Circle
from resonant.functional.neighborhood import positions, visible
from tests.laws import over_budget

BATCH, HEADS, TOKENS, COORDINATES = 2, 3, 23, 5
CIRCLE = Circle()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def phases(seed: int = 0, tokens: int = TOKENS) -> Tensor:
    return 2.0 * drawn(BATCH, HEADS, tokens, COORDINATES, seed=seed)


def direct(
    phase: Tensor,
    gate: Tensor,
    beta: Tensor,
    *,
    key_phase: Tensor | None = None,
    omega: Tensor | None = None,
    lag: Tensor | None = None,
    window: int | None = None,
    causal: bool = True,
) -> Tensor:
    """The definition, term by term, from differences of angles."""
    other = phase if key_phase is None else key_phase
    difference = phase.unsqueeze(3) - other.unsqueeze(2)  # (batch, head, t, u, c)
    query, key = positions(phase.shape[2], other.shape[2], phase.device)
    inside = difference
    if omega is not None:
        inside = inside + omega * (query[:, None] - key[None]).double().unsqueeze(-1)
    if lag is not None:
        inside = inside + lag.unsqueeze(3)
    score = (gate.unsqueeze(3) * inside.cos()).sum(-1) * beta[:, None, None]
    score = score / math.sqrt(phase.shape[-1])
    if causal:
        allowed = visible(Causal(window), query, key)
        assert allowed is not None
        score = score.masked_fill(~allowed, -math.inf)
    weight = score.softmax(-1)
    return (weight.unsqueeze(-1) * (-difference).sin()).sum(3)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("drift", [False, True])
@pytest.mark.parametrize("lagging", [False, True])
def test_it_is_the_definition(window: int | None, drift: bool, lagging: bool) -> None:
    phase, gate = phases().requires_grad_(), drawn(BATCH, HEADS, TOKENS, COORDINATES, seed=1)
    beta = (1.0 + drawn(HEADS, seed=2).abs()).requires_grad_()
    omega = rotary_frequencies(2 * COORDINATES) if drift else None
    lag = drawn(BATCH, HEADS, TOKENS, COORDINATES, seed=3) if lagging else None
    gate.requires_grad_()
    ours = kuramoto_coupling(phase, gate, beta, omega=omega, lag=lag, neighborhood=Causal(window))
    theirs = direct(phase, gate, beta, omega=omega, lag=lag, window=window)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    of = (phase, gate, beta)
    gradients = (torch.autograd.grad((x * weight).sum(), of) for x in (ours, theirs))
    torch.testing.assert_close(*gradients)


def test_other_tokens_phases() -> None:
    phase, other = phases(tokens=7), phases(seed=4)
    gate, beta = drawn(BATCH, HEADS, 7, COORDINATES, seed=1), torch.ones(HEADS).double()
    omega = rotary_frequencies(2 * COORDINATES)
    for causal, neighborhood in ((False, Full()), (True, Causal())):
        ours = kuramoto_coupling(
            phase, gate, beta, key_phase=other, omega=omega, neighborhood=neighborhood
        )
        theirs = direct(phase, gate, beta, key_phase=other, omega=omega, causal=causal)
        torch.testing.assert_close(ours, theirs)


def test_a_common_shift_changes_no_score_and_no_update() -> None:
    phase, gate = phases(), drawn(1, HEADS, 1, COORDINATES, seed=1).abs()
    omega = rotary_frequencies(2 * COORDINATES)
    shift = drawn(1, HEADS, 1, COORDINATES, seed=5)
    how = {"omega": omega, "neighborhood": Causal(), "top_k": 5}
    ours = kuramoto_coupling(phase + shift, gate, **how)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, kuramoto_coupling(phase, gate, **how))  # type: ignore[arg-type]


def test_the_weights_maximise_score_and_entropy() -> None:
    """Direct maximisation over the simplex, from a uniform start, ends at the softmax weights."""
    phase = phases(tokens=9)[:1]
    lift = kuramoto_lift(phase, phase, CIRCLE.embed(phase.unsqueeze(-2)).flatten(-2), 3.0)
    score = lift.query @ lift.key.mT
    weight = torch.full_like(score, 1 / 9)

    def value(a: Tensor) -> Tensor:
        return (a * score).sum(-1) - torch.xlogy(a, a).sum(-1)

    best = value(weight)
    for _ in range(400):  # exponentiated gradient ascent stays in the simplex
        weight = weight * (0.1 * (score - weight.log() - 1)).exp()
        weight = weight / weight.sum(-1, keepdim=True)
        assert (value(weight) >= best - 1e-12).all()
        best = value(weight)
    torch.testing.assert_close(weight, attention_weights(lift), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kappa", [0.3, 1.0])
def test_phases_in_a_half_circle_come_together(kappa: float) -> None:
    phase = (torch.rand(1, 1, 12, 4).double() - 0.5) * 3.0  # an arc of 3 radians
    order = []
    for _ in range(200):
        phase = phase + kappa * kuramoto_coupling(phase, beta=0.0)
        order.append(CIRCLE.embed(phase.unsqueeze(-2)).mean(2).square().sum(-2).sqrt().min())
    assert order[-1] > 1 - 1e-9
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(order))


def test_oneself_moves_nothing() -> None:
    phase = phases()
    diagonal = torch.eye(TOKENS, dtype=torch.bool)[None, None]
    update = kuramoto_coupling(phase, attn_mask=diagonal)
    assert update.abs().max() < 1e-12
    assert kuramoto_coupling(phase).abs().max() > 0.1


def test_it_composes_with_gates_locality_and_runs_fused() -> None:
    phase = phases()
    value = CIRCLE.embed(phase.unsqueeze(-2)).flatten(-2)
    lift = kuramoto_lift(phase, phase, value, BETA)
    energy = drawn(BATCH, HEADS, TOKENS, seed=6)
    gated = energy_gate(lift, energy, 2.0, 0.0)
    local = gaussian_locality(gated, 3.7)
    for composed, path in ((lift, "fused"), (gated, "fused"), (local, "chunked")):
        with record_paths() as taken:
            ours = attend(composed, Causal())
        assert taken == [path]
        torch.testing.assert_close(ours, attend(composed, Causal(), path="materialized"))
    assert not torch.allclose(attend(gated, Causal()), attend(lift, Causal()))


def test_the_coupling_runs_on_the_paths_of_attend() -> None:
    phase = phases()
    cases = (
        (Causal(), None, "fused"),
        (Causal(5), None, "banded"),
        (Causal(5), 3, "banded"),
        (Full(), None, "fused"),
        (Causal(), 3, "chunked"),
    )
    for neighborhood, top_k, path in cases:
        with record_paths() as taken:
            kuramoto_coupling(phase, neighborhood=neighborhood, top_k=top_k)
        assert taken == [path]


def test_the_future_changes_no_bit() -> None:
    phase = phases().float()
    gate = drawn(BATCH, HEADS, TOKENS, COORDINATES, seed=1).float()
    later = phase.clone()
    later[:, :, 12:] = 100 * torch.randn_like(later[:, :, 12:])
    omega = rotary_frequencies(2 * COORDINATES).float()
    for neighborhood in (Causal(), Causal(5)):
        for top_k in (None, 3):
            how = {"omega": omega, "neighborhood": neighborhood, "top_k": top_k}
            ours, theirs = (kuramoto_coupling(x, gate, **how) for x in (phase, later))  # type: ignore[arg-type]
            assert torch.equal(ours[:, :, :12], theirs[:, :, :12])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_to_the_budget_on_the_lifted_features(dtype: torch.dtype) -> None:
    """Phases in float32, q', k', v' in low precision: against plain attention on the same three."""
    draws: list[list[float]] = []
    for seed in range(20):
        phase = phases(seed).float()
        gate = (2 + 0.3 * drawn(BATCH, HEADS, TOKENS, COORDINATES, seed=seed + 100)).to(dtype)
        x = CIRCLE.embed(phase.unsqueeze(-2))
        turned = CIRCLE.turn(x, torch.rand(TOKENS, COORDINATES))
        lift = coupling_lift(turned, turned, x, BETA, gate=gate)
        assert lift.query.dtype == lift.key.dtype == lift.value.dtype == dtype
        low = [t.detach().requires_grad_() for t in (lift.query, lift.key, lift.value)]
        weight = torch.randn_like(lift.value)
        hidden = ~torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()

        def plain(tensors: list[Tensor], hidden: Tensor = hidden) -> Tensor:
            query, key, value = tensors
            return (query @ key.mT).masked_fill(hidden, -math.inf).softmax(-1) @ value

        def run(kind: str, tensors: list[Tensor], weight: Tensor = weight) -> list[Tensor]:
            if kind == "plain":
                output = plain(tensors)
            else:
                output = attend(Lift(*tensors), Causal(), path="fused")
            gradients = torch.autograd.grad((output * weight.to(output.dtype)).sum(), tensors)
            return [output, *gradients]

        wide = [t.detach().double().requires_grad_() for t in low]
        exact, theirs, ours = run("plain", wide), run("plain", low), run("ours", low)
        factors = (2.0, 3.0, 3.0, 3.0)
        draws.append(
            [
                over_budget(o, p, e, dtype, f)
                for o, p, e, f in zip(ours, theirs, exact, factors, strict=True)
            ]
        )
    assert max(statistics.median(each) for each in zip(*draws, strict=True)) <= 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_update_is_as_exact_as_its_features(dtype: torch.dtype) -> None:
    """The whole coupling, far out in position, against the definition in float64."""
    tokens = 96
    phase, gate = phases(tokens=tokens), 2 + 0.3 * drawn(BATCH, HEADS, tokens, COORDINATES, seed=1)
    gate = gate.to(dtype).double()
    omega = rotary_frequencies(2 * COORDINATES)
    exact = direct(phase, gate, torch.full((HEADS,), BETA).double(), omega=omega)
    ours = kuramoto_coupling(
        phase.float(), gate.to(dtype), omega=omega.float(), neighborhood=Causal()
    )
    assert ours.dtype == torch.float32  # phases never leave it
    narrow = kuramoto_coupling(phase.to(dtype), gate.to(dtype), omega=omega.to(dtype))
    assert narrow.dtype == torch.float32
    error = (ours.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert error < 4 * torch.finfo(dtype).eps * math.sqrt(COORDINATES)
