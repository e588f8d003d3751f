"""Linear attention: sums in chunks are the weights written out."""

import pytest
import torch

from resonant.functional import linear_attention
from resonant.functional.linear import linear_weights


def heads(queries: int, keys: int) -> list[torch.Tensor]:
    torch.manual_seed(queries)
    sizes = [(queries, 4), (keys, 4), (keys, 3)]
    return [torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True) for size in sizes]


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 130])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_sums_are_the_weights_written_out(length: int, causal: bool, padded: bool) -> None:
    query, key, value = heads(length, length)
    real = None
    if padded:
        real = torch.ones(2, length, dtype=torch.bool)
        real[1, : (length + 1) // 2] = False
    output, _ = linear_attention(query, key, value, causal=causal, real=real)
    weights = linear_weights(query, key, causal=causal, real=real)
    torch.testing.assert_close(output, weights @ value)
    rows = weights.sum(-1)
    assert bool(((rows - 1).abs() < 1e-12).logical_or(rows == 0).all())
    assert bool((weights >= 0).all())
    ours = torch.autograd.grad(output.square().sum(), (query, key, value), retain_graph=True)
    direct = torch.autograd.grad((weights @ value).square().sum(), (query, key, value))
    torch.testing.assert_close(ours, direct)


def test_more_keys_than_queries_over_everything() -> None:
    query, key, value = heads(3, 70)
    output, _ = linear_attention(query, key, value)
    torch.testing.assert_close(output, linear_weights(query, key) @ value)


@pytest.mark.parametrize("cut", [1, 40, 64, 100])
def test_the_state_goes_on_where_it_stopped(cut: int) -> None:
    query, key, value = heads(130, 130)
    whole, ended = linear_attention(query, key, value, causal=True)
    first, state = linear_attention(*(x[:, :, :cut] for x in (query, key, value)), causal=True)
    rest = [x[:, :, cut:] for x in (query, key, value)]
    second, after = linear_attention(*rest, causal=True, state=state)
    torch.testing.assert_close(torch.cat([first, second], 2), whole)
    torch.testing.assert_close((after.product, after.total), (ended.product, ended.total))
    assert after.nbytes == ended.nbytes == state.nbytes


def test_the_future_changes_nothing_bitwise() -> None:
    query, key, value = heads(130, 130)
    before, _ = linear_attention(query, key, value, causal=True)
    for tensor in (query, key, value):
        tensor.data[:, :, 90:] = 7.0
    after, _ = linear_attention(query, key, value, causal=True)
    assert torch.equal(after[:, :, :90], before[:, :, :90])
    assert not torch.equal(after[:, :, 90:], before[:, :, 90:])


def test_causal_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="as many queries as keys"):
        linear_attention(*heads(3, 5), causal=True)
    _, state = linear_attention(*heads(3, 3), causal=True)
    with pytest.raises(ValueError, match="for causal=True alone"):
        linear_attention(*heads(3, 3), state=state)
