"""Top-k: what is kept, ties, and that no path chooses differently."""

import pytest
import torch

from resonant.functional import Causal, Full, Lift, attend, attention_weights, krause_attention


def test_keeps_the_k_largest() -> None:
    lift = Lift(*(torch.randn(2, 2, 11, 4) for _ in range(3)))
    everything = attention_weights(lift)
    kept = attention_weights(lift, top_k=3)
    assert (kept > 0).sum(-1).eq(3).all()
    smallest_kept = everything.masked_fill(kept == 0, 2.0).amin(-1)
    largest_dropped = everything.masked_fill(kept > 0, -1.0).amax(-1)
    assert (smallest_kept > largest_dropped).all()


def test_counts_only_what_is_visible() -> None:
    lift = Lift(*(torch.randn(1, 2, 11, 4) for _ in range(3)))
    kept = (attention_weights(lift, Causal(5), top_k=3) > 0).sum(-1)
    expected = torch.tensor([1, 2] + [3] * 9).expand(1, 2, 11)
    assert torch.equal(kept, expected)


def test_ties_are_kept_together() -> None:
    query, value = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 9, 4)
    key = torch.randn(1, 1, 3, 4).repeat(1, 1, 3, 1)
    kept = attention_weights(Lift(query, key, value), top_k=2) > 0
    assert kept.sum(-1).eq(3).all()  # the nearest key, all three of it


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_a_rounding_error_apart_is_a_tie_and_a_row_constant_does_not_matter(shift: float) -> None:
    key = torch.randn(1, 1, 3, 8).repeat(1, 1, 4, 1)
    noisy = key * (1 + 1e-7 * torch.randn_like(key))
    query, value = torch.randn(1, 1, 5, 8), torch.randn(1, 1, 12, 8)
    bias = torch.full((1, 1, 12), shift)
    for top_k in (1, 2, 4, 5):
        exact = attention_weights(Lift(query, key, value), top_k=top_k) > 0
        ours = attention_weights(Lift(query, noisy, value, bias), top_k=top_k) > 0
        assert torch.equal(exact, ours)


def test_full_pass_and_one_query_at_a_time_choose_alike() -> None:
    """Repeated tokens: without the tolerance most draws differ between the two."""
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, 4, (1, 24), generator=generator)
        table = torch.randn(3, 4, 16, generator=generator)
        query, key, value = (each[tokens].unsqueeze(1) for each in table)
        options = {"neighborhood": Causal(8), "top_k": 3}
        full = krause_attention(query, key, value, 1.7, **options)
        for t in range(24):
            seen = slice(0, t + 1)
            step = krause_attention(
                query[:, :, t : t + 1], key[:, :, seen], value[:, :, seen], 1.7, **options
            )
            torch.testing.assert_close(step, full[:, :, t : t + 1])


def test_as_many_as_there_are_changes_nothing() -> None:
    lift = Lift(*(torch.randn(1, 2, 9, 4) for _ in range(3)))
    assert torch.equal(attend(lift, top_k=9), attend(lift))
    assert torch.equal(attend(lift, Causal(4), top_k=4), attend(lift, Causal(4)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_selects_in_float32(dtype: torch.dtype) -> None:
    lift = Lift(*(torch.randn(1, 2, 64, 8).to(dtype) for _ in range(3)))
    wide = Lift(lift.query.float(), lift.key.float(), lift.value.float())
    kept = attention_weights(lift, Full(), top_k=9) > 0
    assert torch.equal(kept, attention_weights(wide, Full(), top_k=9) > 0)
