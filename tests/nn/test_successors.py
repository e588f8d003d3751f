"""Successor coupling: the pull is towards the token after the one attended to."""

from typing import Any

import pytest
import torch
from torch import nn

from resonant.functional import Band, Causal, Full
from resonant.nn import KuramotoAttention, RotaryPosition

from .states import HEADS, STATE, apart, phases


def build(**options: Any) -> KuramotoAttention:
    torch.manual_seed(0)
    options = {"successors": True, "neighborhood": Causal()} | options
    made = KuramotoAttention(STATE, HEADS, **options).double().eval()
    if made.own_score is not None:
        nn.init.normal_(made.own_score.weight)
    return made


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("score", ["kept", "threshold"])
def test_it_is_the_pull_of_what_followed(window: int | None, score: Any) -> None:
    """Token by token, from the definition."""
    module, state = build(neighborhood=Causal(window), self_score=score), phases()
    heads = state.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    embedded = module.manifold.embed(module.split(state))
    gate = module.gate_proj(embedded.flatten(2)).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    kappa = module.kappa().unflatten(0, (HEADS, -1))
    expected, seen = heads.clone(), torch.zeros(2, HEADS, 9, 9, dtype=torch.float64)
    for t in range(9):
        first = 0 if window is None else max(0, t - window + 1)
        keys = heads[:, :, first:t]
        cosine = (gate[:, :, t, None] * (heads[:, :, t, None] - keys).cos()).sum(-1)
        logits = cosine * module.beta()[:, None] / heads.shape[-1] ** 0.5
        if module.own_score is not None:
            own = module.own_score(embedded[:, t].flatten(1)).unsqueeze(-1)
            logits = torch.cat([logits, own], -1)
        weights = logits.softmax(-1)
        pull = (heads[:, :, first + 1 : t + 1] - heads[:, :, t, None]).sin()
        seen[:, :, t, first:t] = weights[..., : t - first]
        if module.own_score is not None:
            seen[:, :, t, t] = weights[..., -1]
        expected[:, :, t] += kappa * (weights[..., : t - first, None] * pull).sum(2)
    found, reported = module(state, need_weights=True)
    assert apart(found, expected.transpose(1, 2).flatten(2)) < 1e-12
    torch.testing.assert_close(reported, seen, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("score", ["kept", "threshold"])
def test_decoded_with_a_cache_it_is_the_same(window: int | None, score: Any) -> None:
    position = RotaryPosition(2 * STATE // HEADS)
    module = build(neighborhood=Causal(window), position=position, steps=2, self_score=score)
    state, cache = phases(), module.new_cache()
    whole = module(state)[0]
    with torch.no_grad():
        parts = [module(x, cache=cache)[0] for x in state.split([1, 3, 1, 4], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-12, rtol=1e-12)


def test_the_future_changes_no_bit() -> None:
    module, state = build().float(), phases().float()
    before = module(state)[0]
    state = state.clone()
    state[:, 6:] = torch.randn_like(state[:, 6:])
    assert torch.equal(module(state)[0][:, :6], before[:, :6])
    assert not torch.equal(module(state)[0][:, 6:], before[:, 6:])


def test_documents_and_padding_are_each_alone() -> None:
    module, state = build(), phases(12)
    packed = module(state, documents=torch.tensor([[0] * 5 + [1] * 7]))[0]
    assert apart(packed[:, :5], module(state[:, :5])[0]) < 1e-12
    assert apart(packed[:, 5:], module(state[:, 5:])[0]) < 1e-12
    padding = torch.arange(12).expand(2, -1) < 4
    padded = module(state, key_padding_mask=padding)[0]
    assert apart(padded[:, 4:], module(state[:, 4:])[0]) < 1e-12


def test_a_mask_hides_who_is_attended_to() -> None:
    module, state = build(), phases(5)
    blocked = torch.zeros(5, 5, dtype=torch.bool)
    blocked[:, 1:] = True  # only token 0 is attended to, so all are pulled towards token 1
    found, weights = module(state, attn_mask=blocked, need_weights=True)
    assert weights is not None
    assert weights[:, :, 1:, 0].eq(1).all()
    assert weights.shape == (2, HEADS, 5, 5)
    pull = (state[:, 1:2] - state[:, 1:]).sin() * module.kappa()
    assert apart(found[:, 1:], state[:, 1:] + pull) < 1e-12


@pytest.mark.parametrize("neighborhood", [Full(), Band(2), Causal(1)])
def test_what_has_no_successor_is_refused(neighborhood: Any) -> None:
    with pytest.raises(ValueError, match=r"give neighborhood=Causal\(\), not|a window of 1"):
        build(neighborhood=neighborhood)
    with pytest.raises(ValueError, match="successors are of one sequence"):
        build()(phases(), phases(5))
