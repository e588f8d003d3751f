"""What every run says of its model, and keeps of it at work, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...diagnostics import summarize
from ...models.base import learned_numbers
from .folder import DIAGNOSIS

LOOKED_AT = 8  # windows


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


def at_work(model: nn.Module, inputs: Tensor, texts: Sequence[str]) -> dict[str, dict]:
    """Arrays of ``Outcome``: ``diagnostics.summarize`` of ``inputs``, whose first row reads
    ``texts``, token by token.
    """
    return with_texts(summarize(model, inputs), texts)


def with_texts(found: dict[str, np.ndarray], texts: Sequence[str]) -> dict[str, dict]:
    """Arrays of ``Outcome``: a summary whose first row reads ``texts``."""
    shown = found["weights"].shape[-1]
    return {DIAGNOSIS: {"tokens": np.array(texts[:shown]), **found}}
