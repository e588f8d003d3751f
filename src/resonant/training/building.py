"""Models of tokens for a task, checked against its data."""

from __future__ import annotations

import torch

from ..errors import UserError
from ..models.architectures import build_model
from ..models.base import CausalModel
from ..models.frame_configs import FrameTransformerConfig
from .configs import RunConfig


def build_for_tokens(config: RunConfig, needed: int, device: torch.device) -> CausalModel:
    """The model of ``config``, started by its seed, for data of ``needed`` token ids.

    Raises ``UserError`` for too small a vocabulary and for what cannot be built.
    """
    assert not isinstance(config.model, FrameTransformerConfig)
    if config.model.vocabulary < needed:
        raise UserError(
            f"the data have {needed} token ids but model.vocabulary is {config.model.vocabulary}; "
            f"pass --model.vocabulary {needed}"
        )
    torch.manual_seed(config.seed)
    try:
        return build_model(config.model).to(device)
    except (TypeError, ValueError) as error:
        raise UserError(f"arm {config.arm!r} cannot be built: {error}") from error
