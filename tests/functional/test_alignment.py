"""Baselines of alignment: mixtures, the guided loss, monotonic search."""

import itertools
import math

import pytest
import torch

from resonant.functional import (
    attend,
    attention_weights,
    guided_attention_loss,
    mixture_lift,
    monotonic_alignment_search,
)


def test_a_mixture_s_components_are_gaussians_over_real_tokens() -> None:
    mean = 6 * torch.rand(2, 3, 5, 2, dtype=torch.float64)
    width = torch.rand(2, 3, 5, 2, dtype=torch.float64) + 0.4
    value = torch.randn(2, 3, 8, 4, dtype=torch.float64)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[0, :2] = mask[1, 6:] = False
    lift = mixture_lift(mean, width, value, mask)
    weights = attention_weights(lift).unflatten(1, (3, 2)).transpose(2, 3)
    for row, first, count in ((0, 2, 6), (1, 0, 6)):
        position = torch.arange(count, dtype=torch.float64)
        off = (mean[row, ..., None] - position) / width[row, ..., None]
        density = torch.exp(-(off**2) / 2)
        expected = density / density.sum(-1, keepdim=True)
        torch.testing.assert_close(weights[row, ..., first : first + count], expected)
    assert (weights[0, ..., :2] == 0).all()
    for path in ("chunked", "materialized"):
        expected = attention_weights(lift) @ value.repeat_interleave(2, 1)
        torch.testing.assert_close(attend(lift, path=path), expected)


def test_the_guided_loss_by_its_formula() -> None:
    weights = torch.rand(2, 3, 7, 5).softmax(-1)
    frames, symbols = torch.tensor([7, 4]), torch.tensor([5, 3])
    query_mask = torch.arange(7) < frames[:, None]
    key_mask = torch.arange(5) < symbols[:, None]
    total, count = 0.0, 0
    for row in range(2):
        t_max, s_max = int(frames[row]), int(symbols[row])
        for head, t, s in itertools.product(range(3), range(t_max), range(s_max)):
            far = 1 - math.exp(-((s / s_max - t / t_max) ** 2) / (2 * 0.3**2))
            total += weights[row, head, t, s].item() * far
            count += 1
    ours = guided_attention_loss(weights, query_mask, key_mask, spread=0.3)
    assert ours.item() == pytest.approx(total / count, rel=1e-5)
    diagonal = torch.eye(9).expand(1, 1, 9, 9)
    assert guided_attention_loss(diagonal).item() == 0.0
    assert guided_attention_loss(diagonal.flip(-1)) > 0.05
    with pytest.raises(ValueError, match="spread is a share of the length and must be above 0"):
        guided_attention_loss(weights, spread=0.0)


def test_the_search_finds_the_best_of_all_paths() -> None:
    sizes = ((1, 1), (1, 5), (3, 3), (3, 7), (4, 8))
    for (symbols, frames), walls in itertools.product(sizes, (0.0, 0.3, 0.6)):
        torch.manual_seed(7 * frames + symbols)
        score = torch.randn(1, symbols, frames)
        score = score.masked_fill(torch.rand(score.shape) < walls, -math.inf)
        best, chosen = (-math.inf, -math.inf), None
        for cuts in itertools.combinations(range(1, frames), symbols - 1):
            path = torch.bucketize(torch.arange(frames), torch.tensor(cuts).long(), right=True)
            along = score[0, path, torch.arange(frames)].double()
            possible = along[along > -math.inf]
            value = (len(possible), possible.sum().item())  # through as few walls as can be
            if value > best:
                best, chosen = value, path
        assert chosen is not None
        assert torch.equal(monotonic_alignment_search(score)[0], chosen)


def test_the_search_minds_lengths_and_what_is_impossible() -> None:
    torch.manual_seed(0)
    score = torch.randn(2, 5, 9)
    score[1, :3, 4] = -math.inf  # a wall in the way of three symbols
    sources, targets = torch.tensor([5, 3]), torch.tensor([9, 6])
    path = monotonic_alignment_search(score, sources, targets)
    alone = monotonic_alignment_search(score[1:, :3, :6])
    assert torch.equal(path[1, :6], alone[0])
    assert (path[1, 6:] == -1).all()
    assert path[1, 5] == 2
    assert path[0, -1] == 4
    assert (path[0].diff() >= 0).all()
    assert (path[0].diff() <= 1).all()
    with pytest.raises(ValueError, match=r"source_length must be 1 to 5; it is \[0, 3\]"):
        monotonic_alignment_search(score, torch.tensor([0, 3]), targets)
    with pytest.raises(ValueError, match="target_length must be 1 to 9"):
        monotonic_alignment_search(score, sources, torch.tensor([10, 6]))
    with pytest.raises(ValueError, match="there are rows with 2 frames too few"):
        monotonic_alignment_search(torch.zeros(1, 5, 3))
