"""Krause attention: the limits, the invariances, and the direct formula."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from resonant.functional import (
    Band,
    Causal,
    Full,
    Neighborhood,
    krause_attention,
    softmax_attention,
)
from resonant.functional.neighborhood import positions, visible


def inputs(length: int = 23, dim: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 2, length, dim)
    query, key, value = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(3)
    )
    return query, key, value


def direct(
    query: Tensor, key: Tensor, value: Tensor, sigma: Tensor | float, neighborhood: Neighborhood
) -> Tensor:
    """The definition, differences formed first."""
    distance = (query.unsqueeze(-2) - key.unsqueeze(-3)).square().sum(-1)
    width = torch.as_tensor(sigma, dtype=query.dtype).reshape(-1, 1, 1)
    logits = -distance / (2 * width.square())
    allowed = visible(neighborhood, *positions(query.shape[2], key.shape[2], query.device))
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    return logits.softmax(-1) @ value


NEIGHBORHOODS = (Full(), Causal(), Causal(5), Band(3))


@pytest.mark.parametrize("neighborhood", NEIGHBORHOODS)
@pytest.mark.parametrize("sigma", [0.7, 2.5, torch.tensor([0.9, 3.7])])
def test_is_the_definition(neighborhood: Neighborhood, sigma: float | Tensor) -> None:
    query, key, value = inputs()
    ours = krause_attention(query, key, value, sigma, neighborhood=neighborhood)
    torch.testing.assert_close(ours, direct(query, key, value, sigma, neighborhood))


@pytest.mark.parametrize("neighborhood", NEIGHBORHOODS)
def test_infinite_width_is_the_mean_of_the_neighbourhood(neighborhood: Neighborhood) -> None:
    query, key, value = inputs()
    ours = krause_attention(query, key, value, math.inf, neighborhood=neighborhood)
    allowed = visible(neighborhood, *positions(23, 23, query.device))
    allowed = torch.ones(23, 23, dtype=torch.bool) if allowed is None else allowed
    mean = torch.stack([value[:, :, row].mean(dim=2) for row in allowed], dim=2)
    torch.testing.assert_close(ours, mean)
    wide = krause_attention(query, key, value, 1e6, neighborhood=neighborhood)
    torch.testing.assert_close(wide, mean, atol=1e-9, rtol=1e-9)


def test_vanishing_width_is_the_nearest_key() -> None:
    query, key, value = inputs()
    nearest = torch.cdist(query, key).argmin(-1)
    expected = value.gather(2, nearest.unsqueeze(-1).expand_as(value))
    torch.testing.assert_close(krause_attention(query, key, value, 0.002), expected)


def test_keys_of_equal_norm_give_softmax() -> None:
    query, key, value = inputs()
    key = 3 * key / key.norm(dim=-1, keepdim=True)
    for neighborhood in NEIGHBORHOODS:
        options: dict[str, Any] = {"neighborhood": neighborhood}
        ours = krause_attention(query, key, value, 1.3, **options)
        theirs = softmax_attention(query, key, value, scale=1.3**-2, **options)
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("top_k", [None, 4])
def test_translation_rotation_and_scale_change_nothing(top_k: int | None) -> None:
    query, key, value = inputs()
    generator = torch.Generator().manual_seed(1)
    shift = torch.randn(8, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    for neighborhood in NEIGHBORHOODS:
        options: dict[str, Any] = {"neighborhood": neighborhood, "top_k": top_k}
        reference = krause_attention(query, key, value, 1.3, **options)
        moved = krause_attention(query + shift, key + shift, value, 1.3, **options)
        turned = krause_attention(query @ rotation, key @ rotation, value, 1.3, **options)
        grown = krause_attention(2.7 * query, 2.7 * key, value, 2.7 * 1.3, **options)
        for other in (moved, turned, grown):
            torch.testing.assert_close(other, reference)


def test_origin_changes_rounding_and_nothing_else() -> None:
    query, key, value = inputs()
    origin = torch.randn(2, 8, dtype=torch.float64)
    reference = krause_attention(query, key, value, 1.3)
    torch.testing.assert_close(krause_attention(query, key, value, 1.3, origin=origin), reference)

    far_query, far_key = ((x + 10).float() for x in (query, key))
    exact = direct(far_query.double(), far_key.double(), value, 0.5, Full())
    plain = krause_attention(far_query, far_key, value.float(), 0.5)
    centred = krause_attention(
        far_query, far_key, value.float(), 0.5, origin=torch.full((2, 8), 10.0)
    )
    error = (plain.double() - exact).abs().max(), (centred.double() - exact).abs().max()
    assert error[1] < error[0] / 20


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_a_width_must_be_positive(sigma: float) -> None:
    query, key, value = inputs()
    with pytest.raises(ValueError, match="sigma is a width and must be above 0"):
        krause_attention(query, key, value, sigma)
