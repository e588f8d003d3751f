"""Learned numbers in modules of their own, so that PEFT can save them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def input_dtype(layer: nn.Module) -> torch.dtype:
    """Find the dtype of what ``layer`` takes: that of its weight, float32 where that is no tensor.

    Such are quantized layers, whose weight is packed and whose input is float32.
    """
    weight = getattr(layer, "weight", None)
    return weight.dtype if isinstance(weight, Tensor) else torch.float32


def start_projections(*layers: nn.Linear | None) -> None:
    """Xavier-uniform weights and zero biases, as MultiheadAttention starts."""
    for layer in filter(None, layers):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def wide_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)`` in float32 or better, also under autocast: rates add up over whole lengths.

    A layer that someone put in the place of an ``nn.Linear`` is called with its own dtype.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        if type(layer) is not nn.Linear:
            return layer(x.to(input_dtype(layer))).to(wide)
        bias = None if layer.bias is None else layer.bias.to(wide)
        return F.linear(x.to(wide), layer.weight.to(wide), bias)


class HeadScalar(nn.Module):
    """One learned number per head (or coordinate).

    Returns a tensor (head,); a positive scalar stores its logarithm.

    Raises ``ValueError`` for a positive scalar that starts below 0, or at no number.
    """

    def __init__(self, num_heads: int, start: float, *, positive: bool) -> None:
        super().__init__()
        if positive and not start >= 0:
            raise ValueError(f"a positive scalar must not start below 0, but it starts at {start}")
        self.positive = positive
        value = torch.full((num_heads,), float(start))
        self.value = nn.Parameter(value.log() if positive else value)

    def forward(self) -> Float[Tensor, "head"]:
        if not self.positive:
            return self.value
        # A large finite number stands for infinity, whose gradient would be 0 times infinity.
        kind = torch.finfo(self.value.dtype)
        return self.value.clamp(max=math.log(kind.max) * (1.0 - kind.eps)).exp()


class Strength(nn.Module):
    """A learned number in [0, 2] per coordinate: ``2 sigmoid(value)``.

    Raises ``ValueError`` for a start outside [0, 2).
    """

    def __init__(self, size: int, start: float) -> None:
        super().__init__()
        if not 0.0 <= start < 2.0:
            raise ValueError(f"a coupling strength starts in [0, 2), not at {start}")
        logit = -math.inf if start == 0.0 else math.log(start / (2.0 - start))
        self.value = nn.Parameter(torch.full((size,), logit))

    def forward(self) -> Float[Tensor, "size"]:
        return 2.0 * self.value.sigmoid()


class HeadShare(nn.Module):
    """A learned number in [0, 1] per head: ``sigmoid(value)``.

    Raises ``ValueError`` for a start outside [0, 1].
    """

    def __init__(self, num_heads: int, start: float) -> None:
        super().__init__()
        if not 0.0 <= start <= 1.0:
            raise ValueError(f"a share starts in [0, 1], not at {start}")
        self.value = nn.Parameter(torch.full((num_heads,), float(start)).logit())

    def forward(self) -> Float[Tensor, "head"]:
        return self.value.sigmoid()


class _Wide(nn.Module):
    """Keeps its own parameters in float32 or better when the module is made narrower."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = {name: p.detach() for name, p in self.named_parameters(recurse=False)}
        super()._apply(fn, recurse)
        for name, parameter in self.named_parameters(recurse=False):
            if torch.finfo(parameter.dtype).bits < 32:
                parameter.data = before[name].to(parameter.device)
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.to(parameter.dtype)
        return self


class WideVector(_Wide):
    """A learned vector or matrix that stays float32 or better under ``model.to(torch.bfloat16)``.

    For frequencies: position 8192 times a frequency rounded to 8 bits is off by many turns. No
    weight decay: zero is no better a number than others.
    """

    no_weight_decay = ("value",)

    def __init__(self, start: Float[Tensor, "*size"]) -> None:
        super().__init__()
        self.value = nn.Parameter(start.float())

    def forward(self) -> Float[Tensor, "*size"]:
        return self.value


class WideEmbedding(_Wide, nn.Embedding):
    """An embedding that stays float32 or better, for phases; its start is up to the caller."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__(count, size, _weight=torch.zeros(count, size))
