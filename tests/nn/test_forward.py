"""Forward attention: the posterior against all monotone paths, caches, padding."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from resonant.functional.alignment import forward_posterior
from resonant.nn import ForwardAttention, padded_queries


def drawn(frames: int = 6, tokens: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, frames, tokens, generator=generator, dtype=torch.float64)
    return logits, torch.rand(2, 3, frames, generator=generator, dtype=torch.float64)


def test_it_is_the_sum_over_monotone_paths() -> None:
    """Every path that stays or moves on by one, weighed by its chances and emissions."""
    logits, move = drawn()
    found = forward_posterior(logits, move)[0]
    for row, head in itertools.product(range(2), range(3)):
        for t in range(6):
            sums = [0.0] * 4
            for steps in itertools.product((0, 1), repeat=t):
                at, weight = 0, math.exp(logits[row, head, 0, 0])
                for frame, step in enumerate(steps, start=1):
                    at += step
                    if at > 3:
                        break
                    chance = float(move[row, head, frame])
                    weight *= chance if step else 1 - chance
                    weight *= math.exp(logits[row, head, frame, at])
                else:
                    sums[at] += weight
            exact = torch.tensor(sums, dtype=torch.float64)
            torch.testing.assert_close(found[row, head, t], exact / exact.sum(), rtol=1e-12, atol=0)


def test_gradients() -> None:
    logits, move = (x.requires_grad_() for x in drawn())
    assert torch.autograd.gradcheck(lambda *given: forward_posterior(*given)[0], (logits, move))


@pytest.mark.parametrize("side", ["left", "right", "hole"])
def test_padded_tokens_take_no_part(side: str) -> None:
    logits, move = drawn()
    real = {"left": [2, 3], "right": [0, 1], "hole": [0, 3]}[side]
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[:, real] = True
    found = forward_posterior(logits, move, mask=mask)[0]
    alone = forward_posterior(logits[..., real], move)[0]
    assert torch.equal(found[..., real], alone)
    assert found[..., ~mask[0]].abs().max() == 0


def build() -> ForwardAttention:
    torch.manual_seed(0)
    module = ForwardAttention(16, 4, query_rate=0.4).double().eval()
    torch.nn.init.normal_(module.move.weight, std=0.3)
    return module


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (2, 10, 16), (2, 5, 16)
    query, key = (torch.randn(*x, generator=generator, dtype=torch.float64) for x in shapes)
    return query, key


def test_chunks_are_the_full_pass_and_padding_changes_nothing() -> None:
    module, (query, key) = build(), inputs()
    padding = torch.arange(5) >= torch.tensor([[5], [3]])
    whole, weights = module(query, key, key_padding_mask=padding, need_weights=True)
    assert weights is not None
    assert weights[1, :, :, 3:].abs().max() == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    cache = module.new_cache()
    hidden = torch.zeros(2, 13, dtype=torch.bool)
    hidden[:, [0, 1, 7]] = True
    padded = torch.zeros(2, 13, 16, dtype=torch.float64)
    padded[:, ~hidden[0]] = query
    with torch.no_grad():
        parts = [
            module(q, key, key_padding_mask=padding, query_padding_mask=h, cache=cache)[0]
            for q, h in zip(padded.split(2, 1), hidden.split(2, 1), strict=True)
        ]
    found = torch.cat(parts, 1)[:, ~hidden[0]]
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
    with padded_queries(module, hidden):
        again = module(padded, key, key_padding_mask=padding)[0]
    torch.testing.assert_close(again[:, ~hidden[0]], whole, rtol=0, atol=1e-12)


def test_the_future_changes_no_bit() -> None:
    module, (query, key) = build(), inputs()
    before = module(query, key)[0]
    query[:, 6:] += 1.0
    assert torch.equal(before[:, :6], module(query, key)[0][:, :6])


def test_what_is_refused() -> None:
    module, (query, key) = build(), inputs()
    with pytest.raises(ValueError, match="leave out attn_mask and is_causal"):
        module(query, key, is_causal=True)
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="a chance to move on"):
            ForwardAttention(16, 4, query_rate=rate)


@pytest.mark.usefixtures("unchecked")
def test_masks_and_sizes_that_do_not_fit_are_refused() -> None:
    module, (query, key) = build(), inputs()
    with pytest.raises(TypeError, match=r"key_padding_mask must be boolean .* probabilities"):
        module(query, key, key_padding_mask=torch.zeros(key.shape[:2]))
    logits, move = drawn()
    wrong: list[tuple[dict[str, Tensor], str]] = [
        ({"move": move[..., :4]}, r"go with move of \(2, 3, 6\)"),
        ({"mask": torch.ones(2, 5).bool()}, "go with mask"),
        ({"frames": torch.ones(2, 9).bool()}, "go with frames"),
        ({"state": torch.ones(1, 3, 4)}, "go with state"),
    ]
    for given, says in wrong:
        with pytest.raises(ValueError, match=says):
            forward_posterior(logits, **({"move": move} | given))
    with pytest.raises(TypeError, match="frames must be boolean"):
        forward_posterior(logits, move, frames=torch.ones(2, 6))


@pytest.mark.parametrize("tokens", [1, 3])
def test_who_must_move_on_from_the_last_token_stays(tokens: int) -> None:
    move = torch.ones(1, 1, 6, dtype=torch.float64, requires_grad=True)
    found = forward_posterior(torch.zeros(1, 1, 6, tokens, dtype=torch.float64), move)[0]
    assert found[0, 0].argmax(-1).tolist() == [min(t, tokens - 1) for t in range(6)]
    assert found.sum(-1).eq(1).all()
    (gradient,) = torch.autograd.grad((found * torch.randn_like(found)).sum(), move)
    assert gradient.isfinite().all()


def test_standing_still_and_having_no_end() -> None:
    query, key = inputs()
    still = ForwardAttention(16, 4, query_rate=0.0).double().eval()
    _, weights = still(query, key, need_weights=True)
    assert weights[..., 0].eq(1).all()
    cache = still.new_cache()
    with torch.no_grad():
        still(query[:, :1], key, cache=cache)
    with pytest.raises(ValueError, match="ForwardAttention has no end to pass"):
        cache.finished  # noqa: B018


def test_a_token_far_behind_all_others_is_not_lost() -> None:
    """The one token that can be reached resembles the frame by 2,000 nats less than another."""
    logits = torch.zeros(1, 1, 4, 5, dtype=torch.float64)
    logits[..., 4] = 2000.0
    found = forward_posterior(logits, torch.full((1, 1, 4), 0.5, dtype=torch.float64))[0]
    torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]))
    torch.testing.assert_close(found[0, 0, 3, :4] * 8, torch.tensor([1.0, 3.0, 3.0, 1.0]).double())
