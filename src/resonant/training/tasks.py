"""Which kind of problem a configuration is."""

from __future__ import annotations

from pathlib import Path

from ..data.configs import (
    ImagesConfig,
    InstructionsConfig,
    ProbeConfig,
    SpeechConfig,
    SymbolsConfig,
)
from ..errors import UserError
from ..models.configs import (
    AdaptedModelConfig,
    FrameTransformerConfig,
    PixelModelConfig,
    SpeechTransformerConfig,
    SwinTransformerConfig,
    VisionTransformerConfig,
)
from .configs import RunConfig
from .language import LanguageTask
from .probes import ProbeTask
from .symbols import SymbolsTask
from .task import Task

# What data and models are about; all others are about tokens.
ABOUT = {
    SymbolsConfig: "symbols",
    FrameTransformerConfig: "symbols",
    SpeechConfig: "speech",
    SpeechTransformerConfig: "speech",
    ImagesConfig: "pictures",
    VisionTransformerConfig: "pictures",
    SwinTransformerConfig: "pictures",
    PixelModelConfig: "pictures",
    InstructionsConfig: "instructions",
    AdaptedModelConfig: "instructions",
}


def build_task(config: RunConfig, data_dir: Path | None, device: str = "cpu") -> Task:
    """The model of ``config`` with its data, on ``device``.

    Raises ``UserError`` for a model that is not for these data.
    """
    if ABOUT.get(type(config.data), "tokens") != ABOUT.get(type(config.model), "tokens"):
        raise UserError(
            f"a model of architecture {config.model.architecture} cannot be trained on "
            f"{config.data.name!r}"
        )
    match config.data:
        case SpeechConfig():
            from .speech import SpeechTask  # scipy, and packages of an extra

            return SpeechTask(config, data_dir, device)
        case ImagesConfig():
            from .images import ImagesTask, PixelsTask

            pixels = isinstance(config.model, PixelModelConfig)
            return (PixelsTask if pixels else ImagesTask)(config, data_dir, device)
        case InstructionsConfig():
            from .adapted import AdaptedTask  # transformers and PEFT

            return AdaptedTask(config, data_dir, device)
        case SymbolsConfig():
            return SymbolsTask(config, device)
        case ProbeConfig():
            return ProbeTask(config, device)
        case _:
            return LanguageTask(config, data_dir, device)
