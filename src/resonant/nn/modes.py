"""Evaluation for a while; whether a module stands in the place of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# In modules' own dictionaries, so that they are no parameters of the model.
ORIGINAL, NESTED = "_swapped_from", "_nested_before_swap"


@contextmanager
def without_nested_tensors(model: nn.Module) -> Iterator[None]:
    """``nn.TransformerEncoder`` keeps padded rows as they are, instead of nesting them."""
    encoders = [m for m in model.modules() if isinstance(m, nn.TransformerEncoder)]
    before = [encoder.use_nested_tensor for encoder in encoders]
    for encoder in encoders:
        encoder.use_nested_tensor = False
    try:
        yield
    finally:
        for encoder, nested in zip(encoders, before, strict=True):
            encoder.use_nested_tensor = nested


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation without gradients; afterwards every module is in the mode it was in.

    What is no module is left alone.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def is_swapped(module: nn.Module) -> bool:
    """Whether this very module stands in the place of another."""
    return ORIGINAL in module.__dict__
