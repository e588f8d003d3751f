"""The global generators of random numbers of Python, numpy and torch (those of GPUs apart)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def generator_states() -> dict[str, Any]:
    """Read the states of the generators, as ``torch.load`` reads them without running code."""
    kind, keys, *rest = np.random.get_state()
    numpy = [kind, torch.from_numpy(np.array(keys, dtype=np.int64)), *rest]
    return {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state()}


def restore_generators(states: Mapping[str, Any]) -> None:
    """Set the generators to what ``generator_states`` read."""
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])


def seed_generators(seed: int) -> None:
    """Start the generators from a seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def kept_generators() -> Iterator[None]:
    """Whatever is drawn inside the block, the generators are afterwards as they were."""
    before = generator_states()
    try:
        yield
    finally:
        restore_generators(before)
