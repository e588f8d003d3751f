"""The learned coupling kernel: harmonics of the pulls towards the others and their successors."""

from typing import Any

import pytest
import torch

from resonant.functional import Causal, Full, manifold
from resonant.nn import KuramotoAttention

from .states import HEADS, STATE, apart, phases


def build(**options: Any) -> KuramotoAttention:
    torch.manual_seed(0)
    options = {"neighborhood": Causal()} | options
    return KuramotoAttention(STATE, HEADS, **options).double().eval()


def with_kernel(count: int, *, start: str = "random", **options: Any) -> KuramotoAttention:
    """``start`` random, or the pull of one delay: others, successors."""
    module = build(kernel=count, **options)
    assert module.kernel is not None
    value = module.kernel.value.data
    if start == "random":
        torch.nn.init.normal_(value)
    else:
        value.zero_()
        value[:, ("others", "successors").index(start), 0, 0] = 1.0
    return module


@pytest.mark.parametrize("count", [1, 3])
def test_it_is_the_sum_over_delays_and_harmonics(count: int) -> None:
    """Token by token, from the definition: complex strengths times powers of phase factors."""
    module, state = with_kernel(count), phases()
    heads = state.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    embedded = module.manifold.embed(module.split(state)).flatten(2)
    gate = module.gate_proj(embedded).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    assert module.kernel is not None
    strength = torch.view_as_complex(module.kernel().movedim(-2, -1).contiguous())
    kappa = module.kappa().unflatten(0, (HEADS, -1))
    expected = heads.clone()
    for t in range(1, 9):
        away = heads[:, :, :t] - heads[:, :, t, None]
        logits = (gate[:, :, t, None] * away.cos()).sum(-1) * module.beta()[:, None]
        weights = (logits / (STATE // HEADS) ** 0.5).softmax(-1)[..., None]
        ahead = heads[:, :, 1 : t + 1] - heads[:, :, t, None]
        for n in range(1, count + 1):
            for delay, off in enumerate((away, ahead)):
                factor = (weights * torch.polar(torch.ones_like(off), n * off)).sum(2)
                expected[:, :, t] += kappa * (strength[:, delay, n - 1] * factor).imag
    assert apart(module(state)[0], expected.transpose(1, 2).flatten(2)) < 1e-12


@pytest.mark.parametrize("score", ["kept", "threshold"])
@pytest.mark.parametrize("window", [None, 4])
def test_one_delay_alone_is_successors_or_the_others(score: Any, window: int | None) -> None:
    options = {"self_score": score, "neighborhood": Causal(window)}
    state = phases()
    ours = with_kernel(2, start="successors", **options)(state)[0]
    assert apart(ours, build(successors=True, **options)(state)[0]) < 1e-12
    if score == "threshold":
        ours = with_kernel(2, start="others", **options)(state)[0]
        assert apart(ours, build(**options)(state)[0]) < 1e-12


def test_it_begins_as_half_of_each_pull_and_learns_all() -> None:
    module, state = build(kernel=2), phases()
    halves = [with_kernel(2, start=each)(state)[0] for each in ("others", "successors")]
    moved = [torch.remainder(each - state + 3.0, 2 * torch.pi) - 3.0 for each in halves]
    assert apart(module(state)[0], state + (moved[0] + moved[1]) / 2) < 1e-12
    assert module.kernel is not None
    module(state)[0].sin().sum().backward()
    assert module.kernel.value.grad is not None
    assert (module.kernel.value.grad != 0).all()


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="successors of earlier tokens: give"):
        build(kernel=1, neighborhood=Full())
    with pytest.raises(ValueError, match=r"counts harmonics, so it is at least 0; it is 1\.5"):
        build(kernel=1.5)
    with pytest.raises(ValueError, match="leave out successors"):
        build(kernel=1, successors=True)
    with pytest.raises(ValueError, match="take the circle for a kernel"):
        KuramotoAttention(
            STATE, HEADS, kernel=1, manifold=manifold("sphere-4"), neighborhood=Causal()
        )
    with pytest.raises(ValueError, match="at least 0; it is -1"):
        build(kernel=-1)
    with pytest.raises(ValueError, match=r"leave out the key \(of PhaseAdapter: kdim\), or kernel"):
        build(kernel=1)(phases(), phases().clone())
