"""Connected components, counted with torch alone."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor


def count_components(near: Bool[Tensor, "node node"]) -> int:
    """Count the connected components of a symmetric relation; a node is near itself.

    Each node takes the least label among its neighbours, then the label of the node so named,
    until no label changes: as many rounds as the logarithm of a chain's length, or some more.
    """
    size = len(near)
    near = near | torch.eye(size, dtype=torch.bool, device=near.device)
    label = torch.arange(size, device=near.device)
    while True:
        least = torch.where(near, label, size).amin(-1) if size else label
        least = torch.minimum(least, least[least])
        if torch.equal(least, label):
            return len(label.unique())
        label = least
