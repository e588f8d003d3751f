"""One's own logit a learned threshold: the same update, on every path and with a cache."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.functional import Band, Causal, Full, Neighborhood
from resonant.nn import KuramotoAttention, RotaryPosition

from .states import HEADS, STATE, apart, phases


def build(**options: Any) -> KuramotoAttention:
    torch.manual_seed(0)
    made = KuramotoAttention(STATE, HEADS, self_score="threshold", **options).double().eval()
    assert made.own_score is not None
    nn.init.normal_(made.own_score.weight, std=0.5)
    nn.init.normal_(made.own_score.bias)
    return made


def by_hand(module: KuramotoAttention, state: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """The update from its definition, token by token; no drift, no lag."""
    heads = state.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    embedded = module.manifold.embed(module.split(state))
    gate = module.gate_proj(embedded.flatten(2)).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    assert module.own_score is not None
    own = nn.functional.linear(
        embedded.flatten(2), module.own_score.weight, module.own_score.bias
    ).mT
    away = heads.unsqueeze(3) - heads.unsqueeze(2)  # (batch, head, query, key, coordinate)
    scale = module.beta()[:, None, None] / heads.shape[-1] ** 0.5
    logits = scale * (gate.unsqueeze(3) * away.cos()).sum(-1)
    eye = torch.eye(state.shape[1], dtype=torch.bool)
    logits = torch.where(eye, own.unsqueeze(-1), logits)
    weights = logits.masked_fill(~(allowed | eye), -torch.inf).softmax(-1)
    pull = (weights.unsqueeze(-1) * -away.sin()).sum(3)
    kappa = module.kappa().unflatten(0, (HEADS, 1, -1))
    return (heads + kappa * pull).transpose(1, 2).flatten(2), weights


@pytest.mark.parametrize("bias", [-8.0, -17.0, -30.0])
def test_weights_are_shares_in_float32(bias: float) -> None:
    """Where the others have everything, rounding leaves oneself no negative share."""
    module = build(neighborhood=Causal()).float()
    assert module.own_score is not None
    nn.init.constant_(module.own_score.bias, bias)
    _, weights = module(phases(128).float(), need_weights=True)
    assert weights is not None
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, 128))
    assert torch.special.entr(weights).isfinite().all()


@pytest.mark.parametrize("neighborhood", [Full(), Causal(), Causal(4), Band(2)], ids=str)
def test_it_is_attention_whose_own_logit_is_learned(neighborhood: Neighborhood) -> None:
    module, state = build(neighborhood=neighborhood), phases()
    away = torch.arange(9)[:, None] - torch.arange(9)
    allowed = {
        "Full": away == away,
        "Causal": (away >= 0) & (away < (getattr(neighborhood, "window", None) or 99)),
        "Band": away.abs() <= 2,
    }[type(neighborhood).__name__]
    expected, weights = by_hand(module, state, allowed)
    found, reported = module(state, need_weights=True)
    assert apart(found, expected) < 1e-12
    torch.testing.assert_close(reported, weights, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("window", [None, 3])
def test_decoded_with_a_cache_it_is_the_same(window: int | None) -> None:
    position = RotaryPosition(2 * STATE // HEADS)
    module = build(neighborhood=Causal(window), position=position, steps=2)
    state, cache = phases(), module.new_cache()
    whole, weights = module(state, need_weights=True)
    with torch.no_grad():
        parts = [module(x, cache=cache, need_weights=True) for x in state.split([1, 3, 1, 4], 1)]
    torch.testing.assert_close(torch.cat([x for x, _ in parts], 1), whole, atol=1e-12, rtol=1e-12)
    last = parts[-1][1]
    assert last is not None
    assert weights is not None
    torch.testing.assert_close(last, weights[:, :, 5:, -last.shape[-1] :], atol=1e-12, rtol=1e-12)


def test_masks_of_both_kinds_and_other_tokens() -> None:
    module, state = build(), phases()
    blocked = torch.rand(9, 9, generator=torch.Generator().manual_seed(2)) < 0.4
    expected, _ = by_hand(module, state, ~blocked)
    for mask in (blocked, torch.zeros(9, 9).double().masked_fill(blocked, -torch.inf)):
        found, _ = module(state, attn_mask=mask)
        assert apart(found, expected) < 1e-12
    # Among other tokens there is no oneself: the threshold has no part in it.
    others, kept = phases(5), KuramotoAttention(STATE, HEADS).double().eval()
    kept.load_state_dict(module.state_dict(), strict=False)
    assert torch.equal(module(state, others)[0], kept(state, others)[0])


def test_gradients_reach_the_threshold() -> None:
    module, state = build(neighborhood=Causal()), phases().requires_grad_()
    module(state)[0].square().sum().backward()
    assert module.own_score is not None
    for parameter in module.own_score.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="self_score is kept or threshold; it is 'off'"):
        KuramotoAttention(STATE, HEADS, self_score="off")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a window of 1 holds oneself alone"):
        build(neighborhood=Causal(1))
