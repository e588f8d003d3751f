"""Shapes and types of the whole library are checked at run time in every test."""

from collections.abc import Iterator

from jaxtyping import config, install_import_hook

install_import_hook("resonant", "beartype.beartype")

import pytest  # noqa: E402 (the hook comes first)
import torch  # noqa: E402

torch.set_num_threads(1)  # tests run side by side


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers on every run."""
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the run-time checks, as users run it: for our own errors about wrong arguments."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
