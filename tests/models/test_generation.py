"""Generation: what is drawn, in batches of several lengths, and what may go wrong."""

from typing import Any

import pytest
import torch
from torch import Tensor

import resonant
from resonant.models.generation import choose_token
from tests.models.test_cache import build

KINDS = ["rotary", "learned", "morlet-relative"]


def prompts() -> Tensor:
    return torch.randint(0, 32, (3, 9), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_argmax_of_the_full_pass(kind: str) -> None:
    model = build(kind, "krause", gate="prefix")
    drawn = resonant.generate(model, prompts(), 12, temperature=0.0)
    assert drawn.shape == (3, 21)
    assert torch.equal(drawn[:, :9], prompts())
    for t in range(9, 21):
        assert torch.equal(drawn[:, t], model(drawn[:, :t])[:, -1].argmax(-1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefill", [None, 1, 4])
def test_rows_padded_on_the_left_are_as_if_alone(kind: str, prefill: int | None) -> None:
    model, ids = build(kind, gate="prefix"), prompts()
    padding = torch.arange(9) < torch.tensor([[0], [3], [8]])
    together = resonant.generate(
        model, ids, 10, temperature=0.0, key_padding_mask=padding, prefill=prefill
    )
    for row, pads in enumerate((0, 3, 8)):
        alone = resonant.generate(model, ids[row : row + 1, pads:], 10, temperature=0.0)
        assert torch.equal(together[row, pads:], alone[0])


def test_a_seed_repeats_and_another_does_not() -> None:
    model = build("rotary")
    state = torch.get_rng_state()
    first, again, other = (
        resonant.generate(model, prompts(), 20, temperature=3.0, seed=s) for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
    model.train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    resonant.generate(model, prompts(), 2)
    assert [module.training for module in model.modules()] == modes


def shares(logits: Tensor, **options: float) -> Tensor:
    """How often each token is drawn."""
    generator = torch.Generator().manual_seed(0)
    drawn = choose_token(logits.expand(20_000, -1), generator=generator, **options)  # type: ignore[arg-type]
    return torch.bincount(drawn, minlength=logits.shape[-1]) / 20_000


def test_temperature_top_k_and_top_p_by_their_definitions() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    probabilities = logits.softmax(-1)  # 0.64, 0.24, 0.09, 0.03
    close: Any = {"atol": 0.02, "rtol": 0.0}
    torch.testing.assert_close(shares(logits, temperature=1.0), probabilities, **close)
    torch.testing.assert_close(shares(logits, temperature=2.0), (logits / 2).softmax(-1), **close)
    kept = probabilities[:2] / probabilities[:2].sum()
    for options in ({"top_k": 2}, {"top_p": 0.65}, {"top_p": 0.88}, {"top_k": 3, "top_p": 0.9}):
        found = shares(logits, temperature=1.0, **options)
        torch.testing.assert_close(found[:2], kept, **close)
        assert found[2:].eq(0).all()
    assert shares(logits, temperature=1.0, top_p=0.3)[0] == 1.0
    assert shares(logits, temperature=1.0, top_k=1)[0] == 1.0
    assert shares(logits, temperature=1.0, top_k=99, top_p=1.0)[3] > 0.02
    assert choose_token(logits.unsqueeze(0), 0.0).tolist() == [0]
    assert choose_token(100 * logits.unsqueeze(0), 1e-40).tolist() == [0]


def test_a_stop_token_ends_its_row() -> None:
    model = build("rotary")
    free = resonant.generate(model, prompts(), 20, temperature=0.0)
    stop = int(free[0, 12])
    drawn = resonant.generate(model, prompts(), 20, temperature=0.0, stop_token=stop)
    for row in range(3):
        new = drawn[row, 9:].tolist()
        if stop in new:
            assert set(new[new.index(stop) :]) == {stop}
    one = resonant.generate(model, prompts()[:1], 20, temperature=0.0, stop_token=stop)
    assert one.shape[1] == 9 + 1 + free[0, 9:].tolist().index(stop)


@torch.no_grad()
def test_beyond_the_context_it_goes_on_from_the_last_half() -> None:
    model = build("learned", window=None)  # 40 positions
    drawn = resonant.generate(model, prompts(), 60, temperature=0.0, context=16)
    assert drawn.shape == (3, 69)
    start = 0
    for t in range(9, 69):
        if t - start > 16:
            start = t - 8
        assert torch.equal(drawn[:, t], model(drawn[:, start:t])[:, -1].argmax(-1))
    with pytest.raises(ValueError, match="learned positions end at"):
        resonant.generate(model, prompts(), 60, temperature=0.0)


@pytest.mark.usefixtures("unchecked")
def test_numbers_out_of_range_say_so() -> None:
    model, ids = build("rotary"), prompts()
    cases = [
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"top_k": 0}, "top_k counts the tokens to keep"),
        ({"top_p": 0.0}, r"top_p is a probability in \(0, 1\]"),
        ({"context": 1}, "context must be at least 2"),
        ({"prefill": 0}, "prefill must be at least 1"),
    ]
    for options, why in cases:
        with pytest.raises(ValueError, match=why):
            resonant.generate(model, ids, 3, **options)
    with pytest.raises(ValueError, match="the prompt is empty"):
        resonant.generate(model, ids[:, :0], 3)
    with pytest.raises(ValueError, match="pad prompts of several lengths on the left"):
        resonant.generate(model, ids, 3, key_padding_mask=torch.ones(3, 9, dtype=torch.bool))
    for mask in (torch.zeros(3, 8), torch.zeros(1, 9), torch.zeros(9)):
        with pytest.raises(ValueError, match=r"have the shape \(batch, prompt\), but they are"):
            resonant.generate(model, ids, 3, key_padding_mask=mask.bool())
    with pytest.raises(ValueError, match="max_new_tokens must be at least 0; it is -1"):
        resonant.generate(model, ids, -1)
    assert torch.equal(resonant.generate(model, ids, 0), ids)
