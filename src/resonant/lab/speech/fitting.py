"""Whether a run's model and its speech go together, as their configurations say. No torch."""

from __future__ import annotations

from ...errors import UserError
from ...models.frame_configs import SpeechTransformerConfig
from ..kit.config import RunConfig
from .config import SpeechConfig


def check_speech_fits(config: RunConfig) -> None:
    """Raise ``UserError`` for sizes of the model that are not those of its frames and voices."""
    data, model = config.data, config.model
    assert isinstance(data, SpeechConfig)
    assert isinstance(model, SpeechTransformerConfig)
    need_size(model, "features", data.bands, exactly=True)
    need_size(model, "voices", len(data.voices))


def need_size(
    model: SpeechTransformerConfig, field: str, needed: int, *, exactly: bool = False
) -> None:
    """Raise ``UserError`` where the data need another size."""
    given = getattr(model, field)
    if given < needed or (exactly and given != needed):
        raise UserError(
            f"the data need model.{field} = {needed}, the model has {given}; pass --model.{field} "
            f"{needed}"
        )
