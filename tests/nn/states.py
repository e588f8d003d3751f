"""States of phases for tests of coupling, and how far two of them are apart."""

import torch
from torch import Tensor

STATE, HEADS = 12, 3


def phases(length: int = 9) -> Tensor:
    """Angles (2, length, STATE) in radians, the same ones each time."""
    generator = torch.Generator().manual_seed(1)
    return 3.0 * torch.randn(2, length, STATE, generator=generator, dtype=torch.float64)


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The largest distance of two states on the circle."""
    off = torch.remainder(ours - theirs + torch.pi, 2 * torch.pi) - torch.pi
    return float(off.detach().abs().max())
