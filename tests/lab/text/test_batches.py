"""Batches: a function of seed and step alone; evaluation windows that do not meet."""

import numpy as np
import pytest
import torch

from resonant.errors import UserError
from resonant.lab.text.batches import evaluation_windows, training_batch

TOKENS = np.arange(5000, dtype=np.int32)


def batch(seed: int, step: int):
    return training_batch(TOKENS, seed=seed, step=step, batch_size=8, context=32)


def test_depend_on_seed_and_step_alone() -> None:
    first = batch(3, 17)
    for step in (0, 400, 2):
        batch(3, step)
    assert torch.equal(batch(3, 17)[0], first[0])
    assert not torch.equal(batch(3, 18)[0], first[0])
    assert not torch.equal(batch(4, 17)[0], first[0])


def test_targets_are_the_next_tokens() -> None:
    inputs, targets = batch(0, 0)
    assert inputs.shape == targets.shape == (8, 32)
    assert torch.equal(targets, inputs + 1)


def test_starts_cover_the_text_evenly() -> None:
    starts = torch.cat([batch(0, step)[0][:, 0] for step in range(500)]).double()
    room = len(TOKENS) - 32
    assert starts.max() < room
    assert abs(starts.mean() / (room / 2) - 1) < 0.03


@pytest.mark.parametrize("count", [1, 7, 10_000])
def test_windows_do_not_meet(count: int) -> None:
    inputs, targets = evaluation_windows(TOKENS, count=count, context=32)
    assert len(inputs) == min(count, 156)
    assert len(torch.unique(targets)) == targets.numel()


def test_a_split_shorter_than_the_context_is_refused() -> None:
    with pytest.raises(UserError, match=r"lower --training\.context"):
        training_batch(TOKENS[:30], seed=0, step=0, batch_size=1, context=32)
