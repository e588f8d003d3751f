"""The optimiser and the schedule of every training here, and how one fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...errors import UserError
from .config import TrainingConfig

Report = Callable[[int, float], None]  # step and loss, after each step


class Diverged(UserError):
    """The loss is no number any more."""


def check_finite(numbers: Mapping[str, float], run: str) -> None:
    """Raise ``Diverged`` for a number that is none, or infinite."""
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise Diverged(
                f"the {name} became {number} in {run}; lower --training.learning_rate or "
                "--training.clip"
            )


def build_optimizer(model: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only: norms and learned scalars must be free to move.

    Nor on parameters that a module names in ``no_weight_decay`` (the energies of a gate).
    """
    exempt = {
        id(module.get_parameter(name))
        for module in model.modules()
        for name in getattr(module, "no_weight_decay", ())
    }
    decayed, free = [], []
    for parameter in model.parameters():
        matrix = parameter.dim() >= 2 and id(parameter) not in exempt
        (decayed if matrix else free).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.95), fused=True)


def learning_rate(training: TrainingConfig, step: int) -> float:
    """Linear warm-up to the peak, then half a cosine down to a tenth of it."""
    if step < training.warmup:
        return training.learning_rate * (step + 1) / training.warmup
    through = (step - training.warmup) / max(1, training.steps - training.warmup)
    return training.learning_rate * (0.55 + 0.45 * math.cos(math.pi * through))
