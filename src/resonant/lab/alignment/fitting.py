"""Whether a run's model and its utterances go together, as their configurations say. No torch."""

from __future__ import annotations

from ...errors import UserError
from ..kit.config import RunConfig


def check_frames_fit(config: RunConfig) -> None:
    """Raise ``UserError`` for sizes of the model that are not those of its utterances."""
    for field in ("vocabulary", "features"):
        ours, theirs = getattr(config.model, field), getattr(config.data, field)
        if ours != theirs:
            raise UserError(
                f"the data have {field} = {theirs}, the model {ours}; pass --model.{field} {theirs}"
            )
