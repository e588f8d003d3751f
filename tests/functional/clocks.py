"""Clocks drawn at random, for several tests."""

from typing import Any

import torch
from torch import Tensor


def drawn(
    queries: int, keys: int, seed: int, spread: float, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Rates of target and source, values, and starts of diffusion and floor."""
    generator = torch.Generator().manual_seed(seed)
    target, source = (torch.rand(1, 2, n, generator=generator) ** 2 + 0.05 for n in (queries, keys))
    value = torch.randn(1, 2, keys, 8, generator=generator).to(dtype)
    numbers: dict[str, Any] = {"diffusion": 1e-3 * spread**2, "floor": 0.5 * spread}
    return target * keys / queries, source, value, numbers
