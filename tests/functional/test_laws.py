"""Every registered mechanism is held to every law."""

import pytest

from resonant.functional import mechanism, mechanisms
from resonant.testing import LAWS

# Ten seconds and more each; a mechanism of one's own is held to them in the quick set.
LONG = {("kuramoto", "paths"), ("softmax", "paths"), ("softmax-sink", "paths")}


@pytest.mark.parametrize(
    ("name", "law"),
    [
        pytest.param(name, law, marks=pytest.mark.slow if (name, law) in LONG else ())
        for name in sorted(mechanisms())
        for law in LAWS
    ],
)
def test_law(name: str, law: str) -> None:
    LAWS[law](mechanism(name))
