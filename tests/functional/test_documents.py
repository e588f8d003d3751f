"""Documents packed in one row: none sees another, on any path, and positions start anew."""

from typing import Any

import pytest
import torch

from resonant.functional import (
    Band,
    Causal,
    Documents,
    Full,
    Gaussian,
    Lift,
    Neighborhood,
    attend,
    gaussian_locality,
    record_paths,
)
from resonant.functional.documents import token_positions

LABELS = torch.tensor([[3] * 5 + [1] * 11 + [2] * 7, [0] * 1 + [9] * 22])


def packed(seed: int = 0) -> Lift:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((4, 23), (2, 23), (2, 23))
    query, key, value = (
        torch.randn(2, *s, 8, generator=generator, dtype=torch.float64) for s in shapes
    )
    return Lift(query, key, value, documents=Documents(LABELS, LABELS))


@pytest.mark.parametrize("neighborhood", [Full(), Causal(), Causal(4), Band(2)])
@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("local", [False, True])
def test_packed_is_each_document_alone(
    neighborhood: Neighborhood, top_k: int | None, local: bool
) -> None:
    lift = gaussian_locality(packed(), 3.7) if local else packed()
    for path in ("chunked", "materialized"):
        with record_paths() as taken:
            together = attend(lift, neighborhood, top_k=top_k, path=path)
            automatic = attend(lift, neighborhood, top_k=top_k)
        assert taken == [path, "chunked"]
        torch.testing.assert_close(automatic, together)
        for row in range(2):
            for label in LABELS[row].unique():
                where = LABELS[row] == label
                parts = (x[row : row + 1][:, :, where] for x in (lift.query, lift.key, lift.value))
                alone = Lift(*parts)
                alone = gaussian_locality(alone, 3.7) if local else alone
                torch.testing.assert_close(
                    together[row : row + 1][:, :, where],
                    attend(alone, neighborhood, top_k=top_k, path="materialized"),
                )


def test_another_document_changes_no_bit() -> None:
    lift, other = packed(), packed(seed=1)
    mine = (LABELS[:, -1:] == LABELS)[:, None, :, None]
    mixed = Lift(
        torch.where(mine, lift.query, 1e3 * other.query),
        torch.where(mine, lift.key, 1e3 * other.key),
        torch.where(mine, lift.value, 1e3 * other.value),
        documents=lift.documents,
    )
    for neighborhood in (Full(), Causal(), Causal(4)):
        before, after = (attend(x, neighborhood) for x in (lift, mixed))
        where = mine.expand_as(before)
        assert torch.equal(before[where], after[where])


def test_positions_start_anew_and_padding_is_not_counted() -> None:
    labels = torch.tensor([[5, 5, 7, 7, 7, 8], [1, 1, 1, 1, 2, 2]])
    real = torch.tensor([[False, True, True, True, True, True], [False] * 3 + [True] * 3])
    position, count = token_positions(real, documents=labels)
    assert position.tolist() == [[0, 0, 0, 1, 2, 0], [0, 0, 0, 0, 0, 1]]
    assert count.tolist() == [[1.0], [2.0]]
    alone, _ = token_positions(real)
    assert alone.tolist() == [[0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 1, 2]]
    for cut in range(1, 6):
        first, counted = token_positions(real[:, :cut], documents=labels[:, :cut])
        rest, _ = token_positions(
            real[:, cut:],
            documents=labels[:, cut:],
            past_count=counted,
            past_document=labels[:, cut - 1 : cut],
        )
        assert torch.equal(torch.cat([first, rest], 1), position)


@pytest.mark.usefixtures("unchecked")
def test_sizes_that_do_not_fit_are_named() -> None:
    lift = packed()
    plain: dict[str, Any] = {"query": lift.query, "key": lift.key, "value": lift.value}
    with pytest.raises(ValueError, match=r"documents\.key must have shape \(1 or 2, 23\), but it"):
        Lift(**plain, documents=Documents(LABELS, LABELS[:, :9]))
    with pytest.raises(ValueError, match=r"sink must have shape \(1 or 2, 4, 1 or 23\), but it is"):
        Lift(**plain, sink=torch.zeros(1, 2, 1))
    centers = torch.zeros(1, 1, 23)
    with pytest.raises(ValueError, match=r"pair\.precision must have shape"):
        Lift(**plain, pair=Gaussian(centers, centers, torch.ones(1, 3, 1)))
    with pytest.raises(ValueError, match=r"pair\.key must have shape \(1 or 2, 1 or 2, 23\)"):
        Lift(**plain, pair=Gaussian(centers, torch.zeros(1, 4, 23), torch.ones(1, 4, 1)))
