"""Every registered mechanism is held to every law."""

import pytest

from resonant.functional import mechanism, mechanisms
from resonant.testing import LAWS


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", sorted(mechanisms()))
def test_law(name: str, law: str) -> None:
    LAWS[law](mechanism(name))
