"""Long sequences go segment by segment: the same laws, with segments as small as they get."""

import pytest
import torch

from resonant.functional import Band, Causal, Lift, Neighborhood, attend, mechanism, mechanisms
from resonant.functional.attend import banded
from resonant.testing import LAWS

SMALL = 64  # numbers in a segment: every block becomes its own


@pytest.mark.parametrize(
    ("name", "law"),
    [
        pytest.param(name, law, marks=pytest.mark.slow if law == "paths" else ())
        for name in sorted(mechanisms())
        for law in ("causality", "padding", "gradients", "paths")
    ],
)
def test_laws_hold_segment_by_segment(name: str, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banded, "SEGMENT_SIZE", SMALL)
    monkeypatch.setattr(banded, "SMALLEST_BLOCK", 4)
    LAWS[law](mechanism(name))


@pytest.mark.parametrize("neighborhood", [Causal(9), Causal(64), Band(3), Band(40)])
@pytest.mark.parametrize("sizes", [(300, 300), (300, 331), (331, 300), (150, 700)])
@pytest.mark.parametrize("top_k", [None, 5])
def test_segments_are_taken_and_change_nothing(
    neighborhood: Neighborhood,
    sizes: tuple[int, int],
    top_k: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queries, keys = sizes
    torch.manual_seed(0)
    tensors = [torch.randn(2, 2, n, 4, dtype=torch.float64) for n in (queries, keys, keys)]
    bias = torch.randn(1, 2, keys, dtype=torch.float64)
    cuts = []
    original = banded.cut

    def spy(*arguments):
        cuts.append(original(*arguments))
        return cuts[-1]

    monkeypatch.setattr(banded, "cut", spy)
    whole, parted = [], []
    for results, size in ((whole, 2**22), (parted, SMALL)):
        monkeypatch.setattr(banded, "SEGMENT_SIZE", size)
        needing = [x.clone().requires_grad_() for x in (*tensors, bias)]
        output = attend(
            Lift(*needing[:3], key_bias=needing[3]), neighborhood, top_k=top_k, path="banded"
        )
        results += [output, *torch.autograd.grad(output.square().sum(), needing)]
    assert len(cuts) == 1
    assert len(cuts[0]) >= 2
    torch.testing.assert_close(parted, whole)
    reference = attend(
        Lift(*tensors, key_bias=bias), neighborhood, top_k=top_k, path="materialized"
    )
    torch.testing.assert_close(whole[0], reference)
