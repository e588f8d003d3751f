"""The table of combination -> path, and what a demanded path answers when it cannot."""

import pytest
import torch

from resonant.functional import Band, Causal, Full, Lift, Neighborhood, attend, record_paths
from resonant.functional.attend import Case, choose_path, why_not

TABLE = [
    # queries, keys, neighborhood, top_k, dropout, mask -> path
    (9, 9, Full(), None, False, "none", "fused"),
    (9, 17, Full(), None, False, "none", "fused"),
    (9, 9, Full(), None, False, "constant", "fused"),
    (9, 9, Causal(), None, False, "none", "fused"),
    (9, 9, Causal(), None, False, "constant", "fused"),
    (17, 9, Causal(), None, False, "none", "fused"),
    (9, 17, Causal(), None, False, "none", "chunked"),
    (9, 9, Full(), 3, False, "none", "chunked"),
    (9, 9, Causal(), 3, False, "none", "chunked"),
    (9, 9, Full(), None, True, "none", "chunked"),
    (9, 9, Full(), None, False, "learned", "chunked"),
    (9, 9, Causal(), None, True, "learned", "chunked"),
    (9, 9, Causal(4), None, False, "none", "banded"),
    (9, 17, Causal(4), None, False, "none", "banded"),
    (17, 9, Causal(4), None, False, "none", "banded"),
    (9, 9, Causal(4), 3, False, "none", "banded"),
    (9, 9, Causal(4), 3, True, "none", "banded"),
    (9, 9, Causal(4), None, False, "constant", "chunked"),
    (9, 9, Causal(4), None, False, "learned", "chunked"),
    (9, 9, Band(2), None, False, "none", "banded"),
    (9, 9, Band(2), 2, False, "none", "banded"),
    (9, 9, Band(2), None, False, "constant", "chunked"),
]


@pytest.mark.parametrize(
    ("queries", "keys", "neighborhood", "top_k", "dropout", "mask", "path"), TABLE
)
def test_table(
    queries: int,
    keys: int,
    neighborhood: Neighborhood,
    top_k: int | None,
    dropout: bool,
    mask: str,
    path: str,
) -> None:
    case = Case(queries, keys, neighborhood, top_k, dropout, mask)  # type: ignore[arg-type]
    assert choose_path(case) == path

    lift = Lift(
        torch.randn(1, 2, queries, 4), torch.randn(1, 2, keys, 4), torch.randn(1, 2, keys, 4)
    )
    masks = {
        "none": None,
        "constant": torch.ones(queries, keys, dtype=torch.bool).triu(1),  # hides every token itself
        "learned": torch.zeros(queries, keys, requires_grad=True),
    }
    with record_paths() as taken:
        attend(lift, neighborhood, top_k=top_k, attn_mask=masks[mask], dropout_p=0.1 * dropout)
    assert taken == [path]


@pytest.mark.parametrize(
    ("neighborhood", "top_k", "keys", "path"),
    [
        (Causal(window=9), None, 9, "fused"),  # a window that limits nothing
        (Causal(window=100), 9, 9, "fused"),  # nor does this top-k
        (Band(radius=8), None, 9, "fused"),
        (Causal(window=4), 4, 9, "banded"),  # as many as the window holds: no selection
        (Causal(window=4), None, 9, "banded"),
    ],
)
def test_limits_that_limit_nothing_cost_nothing(
    neighborhood: Neighborhood, top_k: int | None, keys: int, path: str
) -> None:
    lift = Lift(*(torch.randn(1, 2, keys, 4) for _ in range(3)))
    with record_paths() as taken:
        attend(lift, neighborhood, top_k=top_k)
    assert taken == [path]


def test_decoding_one_query_needs_no_band() -> None:
    lift = Lift(torch.randn(1, 2, 1, 4), torch.randn(1, 2, 50, 4), torch.randn(1, 2, 50, 4))
    for neighborhood in (Causal(), Causal(window=7)):
        with record_paths() as taken:
            output = attend(lift, neighborhood)
        assert taken == ["fused"]
        torch.testing.assert_close(output, attend(lift, neighborhood, path="materialized"))


def test_padding_stays_fused() -> None:
    lift = Lift(*(torch.randn(2, 2, 9, 4) for _ in range(3)))
    padding = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    padding[:, :, :, :3] = False
    with record_paths() as taken:
        attend(lift, Causal(), attn_mask=padding)
        attend(lift, Causal(3), attn_mask=padding)
    assert taken == ["fused", "banded"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("path", "neighborhood", "options", "why"),
    [
        ("fused", Full(), {"top_k": 2}, "cannot select the top k"),
        ("fused", Full(), {"dropout_p": 0.5}, "has no dropout"),
        ("fused", Causal(3), {}, "has no windows"),
        ("banded", Full(), {}, "only a window or a band"),
        ("banded", Causal(3), {"attn_mask": torch.ones(9, 9).triu().bool()}, "not cut into bands"),
        ("sideways", Full(), {}, "path is .auto. or one of"),
    ],
)
def test_a_demanded_path_that_cannot_says_why(
    path: str, neighborhood: Neighborhood, options: dict, why: str
) -> None:
    lift = Lift(*(torch.randn(1, 2, 9, 4) for _ in range(3)))
    with pytest.raises(ValueError, match=why):
        attend(lift, neighborhood, path=path, **options)  # type: ignore[arg-type]


def test_materialized_computes_everything() -> None:
    for queries, keys, neighborhood, top_k, dropout, mask, _ in TABLE:
        case = Case(queries, keys, neighborhood, top_k, dropout, mask)  # type: ignore[arg-type]
        assert why_not("materialized", case) is None
        assert why_not("chunked", case) is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"top_k": 0}, "top_k counts the keys to keep"),
        ({"dropout_p": 1.0}, r"probability in \[0, 1\); it is 1.0"),
        ({"attn_mask": torch.ones(4, 4).bool()}, r"must broadcast to .* \(1, 2, 9, 9\)"),
    ],
)
def test_bad_numbers_are_refused(options: dict, why: str) -> None:
    lift = Lift(*(torch.randn(1, 2, 9, 4) for _ in range(3)))
    with pytest.raises(ValueError, match=why):
        attend(lift, **options)


def test_integer_masks_are_refused() -> None:
    lift = Lift(*(torch.randn(1, 2, 9, 4) for _ in range(3)))
    with pytest.raises(TypeError, match=r"boolean .* or float"):
        attend(lift, attn_mask=torch.ones(9, 9, dtype=torch.long))
