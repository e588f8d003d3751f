"""The first keys of a row or a document stay visible beside a window, on every path."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from resonant.functional import Causal, Documents, Lift, attend, attention_weights, record_paths
from resonant.functional.attend import PATHS
from resonant.functional.pair import Gaussian


def expected(sizes: tuple[int, int], causal: Causal, real: Tensor, label: Tensor) -> Tensor:
    """Which key each query may see, by the definition: (batch, 1, query, key)."""
    (queries, keys), window = sizes, causal.window
    assert window is not None
    seen = torch.zeros(len(real), queries, keys, dtype=torch.bool)
    place = torch.arange(keys)
    for row in range(len(real)):
        for i in range(max(0, queries - keys), queries):
            own = i + keys - queries
            mine = real[row] & (label[row] == label[row, own])
            first = mine & (mine.cumsum(0) <= causal.first)
            past = place <= own if causal.own else place < own
            seen[row, i] = mine & past & ((place > own - window) | first)
    return seen.unsqueeze(1)


def lift_of(queries: int, keys: int, *, seed: int = 0) -> Lift:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((4, queries, 8), (2, keys, 8), (2, keys, 6))
    return Lift(*(torch.randn(2, *s, generator=generator, dtype=torch.float64) for s in shapes))


def real_keys(padding: str, keys: int) -> Tensor:
    real = torch.ones(2, keys, dtype=torch.bool)
    if padding == "left":
        real[0, : keys // 3] = real[1, : keys // 5] = False
    if padding == "right":
        real[0, keys - keys // 4 :] = False
    if padding == "between":  # as after a prompt that was padded on the right
        real[0, 1:3] = False
    return real


@pytest.mark.parametrize("padding", ["none", "left", "right", "between"])
@pytest.mark.parametrize("sizes", [(7, 7), (140, 140), (7, 23), (23, 7), (1, 90)])
def test_every_path_is_the_definition(sizes: tuple[int, int], padding: str) -> None:
    queries, keys = sizes
    lift, real = lift_of(*sizes), real_keys(padding, keys)
    mask = None if padding == "none" else real[:, None, None, :]
    one = torch.zeros(2, keys, dtype=torch.long)
    for causal in (
        Causal(5, first=3),
        Causal(2, first=1),
        Causal(40, first=2),
        Causal(4, own=False, first=2),
    ):
        allowed = expected(sizes, causal, real, one)
        for top_k in (None, 3):
            theirs = attend(lift, attn_mask=allowed, top_k=top_k, path="materialized")
            for path in ("auto", "banded", "chunked", "materialized"):
                if path == "banded" and causal.window is not None and keys <= causal.window:
                    continue  # the window limits nothing, so there are no bands
                try:
                    ours = attend(lift, causal, attn_mask=mask, top_k=top_k, path=path)
                except ValueError:
                    assert path == "banded"
                    assert queries == 1
                    continue
                torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)
    weights = attention_weights(lift, causal, attn_mask=mask)
    assert torch.equal(weights > 0, allowed.expand_as(weights))


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("gaussian", [False, True])
def test_every_document_keeps_its_own_first_keys(padding: str, gaussian: bool) -> None:
    length = 150
    lift, real = lift_of(length, length), real_keys(padding, length)
    label = torch.stack([torch.arange(length) // 37, torch.full((length,), 4)])
    lift = replace(lift, documents=Documents(label, label))
    if gaussian:
        place = torch.arange(length, dtype=torch.float64)[None, None]
        precision = torch.full((1, 4, 1), 0.01, dtype=torch.float64)
        lift = replace(lift, pair=Gaussian(place, place, precision))
    mask = None if padding == "none" else real[:, None, None, :]
    for causal in (Causal(5, first=3), Causal(50, first=2)):
        allowed = expected((length, length), causal, real, label)
        alone = replace(lift, documents=None)
        for top_k in (None, 3):
            theirs = attend(alone, attn_mask=allowed, top_k=top_k, path="materialized")
            for path in ("auto", "materialized"):
                ours = attend(lift, causal, attn_mask=mask, top_k=top_k, path=path)
                torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("learned", [False, True])
def test_a_mask_over_queries_and_keys_narrows_it(learned: bool) -> None:
    sizes = (140, 150)
    lift, real = lift_of(*sizes), torch.ones(2, 150, dtype=torch.bool)
    bias = torch.randn(2, 1, *sizes, generator=torch.Generator().manual_seed(1)).double()
    bias.requires_grad_(learned)
    causal = Causal(6, first=3)
    allowed = expected(sizes, causal, real, torch.zeros(2, 150, dtype=torch.long))
    both = bias.masked_fill(~allowed, float("-inf"))
    theirs = attend(lift, attn_mask=both, path="materialized")
    for path in ("auto", "materialized"):
        ours = attend(lift, causal, attn_mask=bias, path=path)
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)
        if learned:
            pair = (
                torch.autograd.grad(x.square().sum(), bias, retain_graph=True)[0]
                for x in (ours, theirs)
            )
            torch.testing.assert_close(*pair, atol=1e-11, rtol=0)


@pytest.mark.parametrize("queries", [3, 6, 20])
def test_a_mask_that_rows_share_goes_with_paddings_of_their_own(queries: int) -> None:
    lift = lift_of(queries, 20)
    bias = torch.zeros(2, 1, 20).masked_fill(~real_keys("left", 20).unsqueeze(1), float("-inf"))
    shared = torch.rand(1, 1, queries, 20, generator=torch.Generator().manual_seed(1)) < 0.8
    real, one = real_keys("left", 20), torch.zeros(2, 20, dtype=torch.long)
    causal = Causal(3, first=2)
    allowed = expected((queries, 20), causal, real, one) & shared
    theirs = attend(lift, attn_mask=allowed, path="materialized")
    for path in ("auto", "materialized"):
        ours = attend(lift.add_bias(bias), causal, attn_mask=shared, path=path)
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)


@pytest.mark.parametrize("low", [-1e9, -1e4, float("-inf")])
def test_padding_written_as_a_large_negative_number_is_padding(low: float) -> None:
    lift, real = lift_of(30, 30), real_keys("left", 30)
    bias = torch.zeros(2, 1, 30, dtype=torch.float64).masked_fill(~real.unsqueeze(1), low)
    causal, one = Causal(3, first=2), torch.zeros(2, 30, dtype=torch.long)
    theirs = attend(lift, attn_mask=expected((30, 30), causal, real, one), path="materialized")
    seeing = real.unsqueeze(1).unsqueeze(-1)
    for path in ("auto", "banded", "chunked", "materialized"):
        ours = attend(lift.add_bias(bias), causal, path=path)
        torch.testing.assert_close(ours * seeing, theirs * seeing, atol=1e-10, rtol=0)


def test_fewer_queries_than_keys_of_packed_documents() -> None:
    label = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 2]])
    for queries, causal in itertools.product((1, 2, 4), (Causal(1, first=4), Causal(2, first=1))):
        lift = lift_of(queries, 6)
        lift = replace(lift, documents=Documents(label[:, 6 - queries :], label))
        real = torch.ones(2, 6, dtype=torch.bool)
        allowed = expected((queries, 6), causal, real, label)
        theirs = attend(replace(lift, documents=None), attn_mask=allowed, path="materialized")
        for path in ("auto", "materialized"):
            ours = attend(lift, causal, path=path)
            torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)


def test_gradients_of_bands_and_blocks_are_the_definition() -> None:
    lift, real = lift_of(140, 140), real_keys("left", 140)
    mask = real[:, None, None, :]
    found = {}
    for path in ("banded", "chunked", "materialized"):
        tensors = [x.clone().requires_grad_() for x in (lift.query, lift.key, lift.value)]
        output = attend(Lift(*tensors), Causal(9, first=4), attn_mask=mask, path=path)  # type: ignore[arg-type]
        found[path] = torch.autograd.grad(output.square().sum(), tensors)
    for path in ("banded", "chunked"):
        for ours, theirs in zip(found[path], found["materialized"], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)


def test_a_triangle_beside_it_keeps_the_bands() -> None:
    lift = lift_of(90, 90)
    triangle = torch.ones(90, 90, dtype=torch.bool).tril()
    with record_paths() as paths:
        ours = attend(lift, Causal(5, first=2), attn_mask=triangle)
    assert paths == ["banded"]
    assert torch.equal(ours, attend(lift, Causal(5, first=2)))
    holed = triangle.clone()
    holed[50:, 1] = False
    with record_paths() as paths:
        ours = attend(lift, Causal(5, first=2), attn_mask=holed)
    assert paths == ["chunked"]
    assert not torch.equal(ours[:, :, 50:], attend(lift, Causal(5, first=2))[:, :, 50:])


def test_decoding_one_token_meets_a_window_and_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys a cache of another library hands over."""
    lift, met = lift_of(1, 3000), []
    kernel = torch.nn.functional.scaled_dot_product_attention

    def watched(query: Tensor, key: Tensor, *given: object, **options: object) -> Tensor:
        met.append(key.shape[2])
        return kernel(query, key, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    attend(lift, Causal(64, first=4))
    assert met == [68]


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: Causal(first=4), "no window"),
        (lambda: Causal(8, first=-1), "at least 0"),
        (lambda: Causal(8, first=True), "integer"),
    ],
)
def test_what_cannot_be_is_refused(build, why: str) -> None:
    with pytest.raises((ValueError, TypeError), match=why):
        build()


def test_a_label_that_recurs_is_refused() -> None:
    lift = lift_of(9, 9)
    label = torch.tensor([[0, 0, 0, 1, 1, 1, 0, 0, 0]])
    lift = replace(lift, documents=Documents(label, label))
    attend(lift, Causal(3))
    for path in PATHS[3:]:
        with pytest.raises(ValueError, match="recurs"):
            attend(lift, Causal(3, first=1), path=path)
