"""Masks, dropout, grouped queries, widths and dtypes of ``attend`` against a plain loop."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from resonant.functional import (
    Band,
    Causal,
    Full,
    Lift,
    Neighborhood,
    attend,
    attention_weights,
    softmax_attention,
)


def loop(
    query: Tensor, key: Tensor, value: Tensor, neighborhood: Neighborhood, mask: Tensor | None
) -> Tensor:
    """Attention query by query and key by key, from the definitions alone."""
    batch, heads, queries, dim = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
    output = torch.zeros(batch, heads, queries, value.shape[-1], dtype=query.dtype)
    for b in range(batch):
        for h in range(heads):
            g = h // (heads // key_heads)
            for i in range(queries):
                position = i + keys - queries
                scores = {}
                for j in range(keys):
                    back = position - j
                    match neighborhood:
                        case Causal(window, own):
                            seen = back >= (0 if own else 1) and (window is None or back < window)
                        case Band(radius):
                            seen = abs(back) <= radius
                        case _:
                            seen = True
                    extra = 0.0
                    if mask is not None and mask.dtype == torch.bool:
                        seen = seen and bool(mask.expand(batch, heads, queries, keys)[b, h, i, j])
                    elif mask is not None:
                        extra = float(mask.expand(batch, heads, queries, keys)[b, h, i, j])
                    if seen and extra > -math.inf:
                        score = (query[b, h, i] @ key[b, g, j]).item() / math.sqrt(dim)
                        scores[j] = score + extra
                if scores:
                    top = max(scores.values())
                    weights = {j: math.exp(s - top) for j, s in scores.items()}
                    total = sum(weights.values())
                    for j, weight in weights.items():
                        output[b, h, i] += weight / total * value[b, g, j]
    return output


neighborhoods = st.one_of(
    st.just(Full()),
    st.builds(Causal, st.one_of(st.none(), st.integers(1, 12))),
    st.builds(Band, st.integers(0, 12)),
)


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 11),
    keys=st.integers(1, 11),
    neighborhood=neighborhoods,
    groups=st.sampled_from([1, 2]),
    kind=st.sampled_from(["none", "bool", "float", "padding", "batch"]),
    seed=st.integers(0, 10_000),
)
def test_attend_is_the_definition(
    queries: int, keys: int, neighborhood: Neighborhood, groups: int, kind: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    query, key, value = (
        normal(2, 2 * groups, queries, 4),
        normal(2, 2, keys, 4),
        normal(2, 2, keys, 6),
    )
    masks = {
        "none": None,
        "bool": normal(queries, keys) > -0.5,
        "float": normal(1, 2 * groups, queries, keys).masked_fill(
            normal(1, 1, queries, keys) > 1, -math.inf
        ),
        "padding": normal(2, 1, 1, keys) > -0.5,
        "batch": normal(2, 1, queries, keys) > -0.5,
    }
    mask = masks[kind]
    ours = softmax_attention(query, key, value, neighborhood=neighborhood, attn_mask=mask)
    torch.testing.assert_close(ours, loop(query, key, value, neighborhood, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_masks_filled_with_the_smallest_number_mean_blocked(dtype: torch.dtype) -> None:
    query, key, value = (torch.randn(1, 2, 5, 4) for _ in range(3))
    allowed = torch.rand(1, 1, 5, 5) > 0.4
    allowed[:, :, 2] = False
    filled = torch.zeros(1, 1, 5, 5, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
    for path in ("auto", "chunked", "materialized"):
        lift = Lift(query, key, value)
        ours = attend(lift, attn_mask=filled, path=path)
        torch.testing.assert_close(ours, attend(lift, attn_mask=allowed))
        assert ours[:, :, 2].eq(0).all()


@pytest.mark.parametrize("neighborhood", [Full(), Causal(), Causal(3), Band(2)])
@pytest.mark.parametrize("top_k", [None, 2])
def test_weights_are_those_of_the_output(neighborhood: Neighborhood, top_k: int | None) -> None:
    lift = Lift(torch.randn(2, 4, 9, 4), torch.randn(2, 2, 9, 4), torch.randn(2, 2, 9, 5))
    weights = attention_weights(lift, neighborhood, top_k=top_k)
    value = lift.value.repeat_interleave(2, dim=1)
    torch.testing.assert_close(weights @ value, attend(lift, neighborhood, top_k=top_k))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9))


@pytest.mark.parametrize("neighborhood", [Full(), Causal(), Causal(4)])
def test_dropout_drops_weights_and_keeps_the_mean(neighborhood: Neighborhood) -> None:
    torch.manual_seed(0)
    lift = Lift(*(torch.randn(1, 2, 12, 4).expand(4000, -1, -1, -1) for _ in range(3)))
    draws = attend(lift, neighborhood, dropout_p=0.25)
    assert draws.std(0).mean() > 0.05
    error = (draws.mean(0) - attend(lift, neighborhood)[0]).abs() / (draws.std(0) + 1e-6)
    assert error.max() < 6 / math.sqrt(4000)


def test_chunked_dropout_is_the_same_in_the_recomputed_backward() -> None:
    query, key, value = (torch.randn(1, 1, 6, 4, requires_grad=True) for _ in range(3))
    lift = Lift(query, key, value)
    torch.manual_seed(1)
    chunked = attend(lift, dropout_p=0.5, path="chunked")
    torch.manual_seed(1)
    written_out = attend(lift, dropout_p=0.5, path="materialized")
    torch.testing.assert_close(chunked, written_out)
    ours = torch.autograd.grad(chunked.square().sum(), (query, key, value))
    theirs = torch.autograd.grad(written_out.square().sum(), (query, key, value))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(9, 9), (1, 2, 9, 9), (1, 1, 9, 9), (1, 1, 1, 9)])
def test_a_learned_mask_gets_its_gradient(shape: tuple[int, ...]) -> None:
    lift = Lift(*(torch.randn(1, 2, 9, 4, dtype=torch.float64) for _ in range(3)))
    mask = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    for neighborhood in (Full(), Causal(), Causal(3)):
        gradients = []
        for path in ("auto", "materialized"):
            output = attend(lift, neighborhood, attn_mask=mask, path=path).square().sum()
            gradients.append(torch.autograd.grad(output, mask)[0])
        torch.testing.assert_close(*gradients)
        assert gradients[0].abs().sum() > 0


def test_one_dtype_for_all_and_the_value_s_for_the_output() -> None:
    query, key, value = (torch.randn(1, 2, 9, 4) for _ in range(3))
    output = attend(Lift(query, key, value.bfloat16()))
    assert output.dtype == torch.bfloat16
    reference = attend(Lift(query, key, value.bfloat16().float()))
    torch.testing.assert_close(output.float(), reference, atol=1e-2, rtol=1e-2)


@pytest.mark.usefixtures("unchecked")
def test_sizes_that_do_not_fit_are_refused() -> None:
    good = torch.randn(1, 2, 9, 4)
    with pytest.raises(ValueError, match="multiple of the number of key heads"):
        Lift(torch.randn(1, 3, 9, 4), good, good)
    with pytest.raises(ValueError, match="share batch and width"):
        Lift(torch.randn(1, 2, 9, 5), good, good)
    with pytest.raises(ValueError, match="share batch, heads and length"):
        Lift(good, good, torch.randn(1, 2, 8, 4))
    with pytest.raises(ValueError, match="key_bias must have shape"):
        Lift(good, good, good, torch.randn(1, 3, 9))


@pytest.mark.parametrize(
    ("build", "why"), [(lambda: Causal(0), "at least 1"), (lambda: Band(-1), "at least 0")]
)
def test_neighborhoods_refuse_what_sees_nothing(build, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        build()


def test_no_queries_or_no_keys_give_zeros() -> None:
    for queries, keys in ((0, 5), (5, 0), (0, 0)):
        for neighborhood in (Full(), Causal(), Causal(3)):
            output = softmax_attention(
                torch.randn(2, 2, queries, 4),
                torch.randn(2, 2, keys, 4),
                torch.randn(2, 2, keys, 6),
                neighborhood=neighborhood,
            )
            assert output.shape == (2, 2, queries, 6)
            assert output.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (1, 1, 8, 8)])
def test_large_negative_numbers_block_in_every_dtype(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    lift = Lift(*(torch.randn(1, 1, 8, 4).to(dtype) for _ in range(3)))
    mask, allowed = torch.zeros(shape), torch.ones(shape, dtype=torch.bool)
    mask[..., 0], allowed[..., 0] = -1e9, False
    for neighborhood in (Full(), Band(5)):
        for top_k in (None, 2):
            options = {"top_k": top_k, "neighborhood": neighborhood}
            torch.testing.assert_close(
                attend(lift, attn_mask=mask, **options), attend(lift, attn_mask=allowed, **options)
            )


def test_a_batch_of_nothing_and_its_gradient() -> None:
    for shape in ((0, 2, 9, 4), (2, 2, 0, 4)):
        tensors = [torch.randn(shape, requires_grad=True) for _ in range(3)]
        output = attend(Lift(*tensors), Causal(3))
        assert output.shape == shape
        output.sum().backward()
        assert all(x.grad is not None for x in tensors)
