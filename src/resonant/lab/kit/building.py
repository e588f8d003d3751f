"""Models of tokens for a task, checked against its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from ...errors import UserError
from ...models.architectures import build_model
from ...models.base import CausalModel
from .config import RunConfig

M = TypeVar("M", bound=nn.Module)


def build_for_tokens(config: RunConfig, needed: int, device: torch.device) -> CausalModel:
    """The model of ``config``, started by its seed, for data of ``needed`` token ids.

    Raises ``UserError`` for too small a vocabulary and for what cannot be built.
    """
    model: Any = config.model
    if model.vocabulary < needed:
        raise UserError(
            f"the data have {needed} token ids but model.vocabulary is {model.vocabulary}; "
            f"pass --model.vocabulary {needed}"
        )
    return built(config, build_model, device)


def built(config: RunConfig, build: Callable[[Any], M], device: torch.device) -> M:
    """``build(config.model)``, started by the seed, on ``device``.

    Raises ``UserError`` for what cannot be built.
    """
    torch.manual_seed(config.seed)
    try:
        return build(config.model).to(device)
    except (TypeError, ValueError) as error:
        raise UserError(f"arm {config.arm!r} cannot be built: {error}") from error
