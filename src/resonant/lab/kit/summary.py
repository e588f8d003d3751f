"""What every run says of its model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...models.base import learned_numbers


def model_summary(
    model: nn.Module, start: dict[str, list[float]], device: torch.device
) -> dict[str, Any]:
    """Device, parameter counts, and learned numbers at the ``start`` and now."""
    attention = sum(p.numel() for n, p in model.named_parameters() if ".attention." in n)
    return {
        "device": str(device),
        "parameters": sum(p.numel() for p in model.parameters()),
        "attention_parameters": attention,
        "learned_numbers": {"start": start, "end": learned_numbers(model)},
    }
