"""What a task leaves is checked where it is made, before anything is written."""

from typing import Any

import numpy as np
import pytest

from resonant.lab.kit.domain import Figure
from resonant.lab.kit.task import Outcome

LOSSES = {"valid_loss": 1.0, "test_loss": 2.0}


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (({"valid_loss": 1.0}, {}), "metrics lack test_loss"),
        ((LOSSES, {"hash": "x"}), "facts are not called hash: every run has those"),
        ((LOSSES, {}, {"config.yaml": {}}), r"lie in NAME\.npz; 'config\.yaml' is not one"),
        ((LOSSES, {}, {"../x.npz": {}}), r"lie in NAME\.npz; '\.\./x\.npz' is not one"),
    ],
)
def test_what_no_run_may_leave_is_refused(parts: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Outcome(*parts)


def test_what_a_run_may_leave() -> None:
    kept = Outcome(LOSSES, {"sample": "x"}, {"curve.npz": {"x": np.zeros(2)}})
    assert kept.metrics == LOSSES


@pytest.mark.parametrize("name", ["", "a/b", "..\\b"])
def test_a_figure_is_called_as_a_file_can_be(name: str) -> None:
    with pytest.raises(ValueError, match="a figure's name is that of its file"):
        Figure(name, "<svg/>", "")
