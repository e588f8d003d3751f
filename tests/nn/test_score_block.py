"""Who scores: a head with the coordinates of the next, and keys that weigh theirs."""

from typing import Any

import pytest
import torch

from resonant.functional import Causal
from resonant.nn import KuramotoAttention, RotaryPosition

from .states import HEADS, STATE, apart, phases


def build(**options: Any) -> KuramotoAttention:
    torch.manual_seed(0)
    options = {"score_block": "next", "neighborhood": Causal()} | options
    made = KuramotoAttention(STATE, HEADS, **options).double().eval()
    torch.nn.init.normal_(made.gate_proj.bias)
    return made


def test_it_is_the_pull_on_one_block_by_scores_of_the_next() -> None:
    """Head by head, from the definition: drift and gate are the head's, the phases the next's."""
    module, state = build(position=RotaryPosition(2 * STATE // HEADS)), phases()
    heads = state.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    embedded = module.manifold.embed(module.split(state)).flatten(2)
    gate = module.gate_proj(embedded).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    kappa = module.kappa().unflatten(0, (HEADS, -1))
    away = heads.unsqueeze(3) - heads.unsqueeze(2)  # (batch, head, query, key, coordinate)
    assert module.position is not None
    angle = module.position.angle(torch.arange(9), torch.float64)
    assert angle is not None
    drift = angle[:, None] - angle
    future = torch.ones(9, 9, dtype=torch.bool).triu(1)
    expected = heads.clone()
    for head in range(HEADS):
        cosine = (away[:, (head + 1) % HEADS] + drift).cos()
        logits = (gate[:, head, :, None] * cosine).sum(-1) * module.beta()[head]
        weights = (logits / (STATE // HEADS) ** 0.5).masked_fill(future, -torch.inf).softmax(-1)
        expected[:, head] += kappa[head] * (weights.unsqueeze(-1) * -away[:, head].sin()).sum(2)
    assert apart(module(state)[0], expected.transpose(1, 2).flatten(2)) < 1e-12


def test_what_a_head_moves_does_not_change_whom_it_chooses() -> None:
    module, state = build(), phases()
    first = slice(0, STATE // HEADS)
    other = state.clone()
    other[..., first] += torch.randn(2, 9, STATE // HEADS, dtype=torch.float64)
    torch.nn.init.zeros_(module.gate_proj.weight)  # gates see every coordinate
    before, after = (module(each, need_weights=True)[1] for each in (state, other))
    assert before is not None
    assert after is not None
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.equal(before[:, -1], after[:, -1])  # its next is the first


def test_a_key_weighs_its_coordinates() -> None:
    """From the definition: the query's gate times the key's."""
    module, state = build(score_block="own", key_gate=True), phases()
    assert module.key_gate_proj is not None
    torch.nn.init.normal_(module.key_gate_proj.weight)
    heads = state.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    embedded = module.manifold.embed(module.split(state)).flatten(2)
    gate, key_gate = (
        proj(embedded).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for proj in (module.gate_proj, module.key_gate_proj)
    )
    away = heads.unsqueeze(3) - heads.unsqueeze(2)
    logits = (gate.unsqueeze(3) * key_gate.unsqueeze(2) * away.cos()).sum(-1)
    logits = logits * module.beta()[:, None, None] / (STATE // HEADS) ** 0.5
    future = torch.ones(9, 9, dtype=torch.bool).triu(1)
    weights = logits.masked_fill(future, -torch.inf).softmax(-1)
    kappa = module.kappa().unflatten(0, (HEADS, 1, -1))
    expected = heads + kappa * (weights.unsqueeze(-1) * -away.sin()).sum(3)
    assert apart(module(state)[0], expected.transpose(1, 2).flatten(2)) < 1e-12


def test_a_key_gate_of_one_changes_nothing() -> None:
    module = build(score_block="own", key_gate=True)
    assert module.key_gate_proj is not None
    torch.nn.init.zeros_(module.key_gate_proj.weight)
    plain = build(score_block="own")
    plain.load_state_dict(module.state_dict(), strict=False)
    assert torch.equal(module(phases())[0], plain(phases())[0])


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="one head has no next"):
        KuramotoAttention(STATE, 1, score_block="next")
    with pytest.raises(ValueError, match="score_block is own or next; it is 'all'"):
        KuramotoAttention(STATE, HEADS, score_block="all")  # type: ignore[arg-type]
