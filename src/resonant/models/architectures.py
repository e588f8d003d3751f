"""Language models by the name of their architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import MODEL_CONFIG
from .base import CausalModel
from .language import LanguageModel
from .phase import PhaseLanguageModel
from .pixels import PixelModel
from .pretrained import read_description
from .swin import SwinTransformer
from .vision import VisionTransformer

ARCHITECTURES: dict[str, type[CausalModel]] = {
    "transformer": LanguageModel,
    "phase": PhaseLanguageModel,
}
VISION: dict[str, Any] = {
    "vision": VisionTransformer,
    "swin": SwinTransformer,
    "pixels": PixelModel,
}


def build_model(config: Any) -> CausalModel:
    """The model that ``config`` describes."""
    return ARCHITECTURES[config.architecture](config)  # type: ignore[call-arg]


def build_vision_model(config: Any) -> Any:
    """The model of images that ``config`` describes."""
    return VISION[config.architecture](config)


def load_model(directory: str | Path) -> CausalModel:
    """The model that ``save_pretrained`` wrote, whichever it is.

    Raises ``FileNotFoundError`` or ``ValueError`` when a file is missing or does not fit.
    """
    path, architecture = Path(directory) / MODEL_CONFIG, None
    if path.is_file():
        architecture = read_description(path).get("architecture")
    if not isinstance(architecture, str):
        architecture = ""  # from_pretrained says what is wrong
    if architecture == "speech":
        raise ValueError(
            f"{directory} holds a model of speech, which takes phonemes; hear it with `resonant "
            "speak`, load it with SpeechTransformer.from_pretrained"
        )
    if architecture == "pixels":
        return PixelModel.from_pretrained(directory)
    if architecture in VISION:
        kind = VISION[architecture].__name__
        raise ValueError(
            f"{directory} holds a model of pictures, which takes and makes no text; load it with "
            f"{kind}.from_pretrained, see what it does with `resonant report` on the comparison's "
            "folder"
        )
    if architecture == "frames":
        raise ValueError(
            f"{directory} holds a model from symbols to frames, which takes and makes no text; "
            "load it with FrameTransformer.from_pretrained, see where it looks with "
            "`resonant report` on the comparison's folder"
        )
    return ARCHITECTURES.get(architecture, LanguageModel).from_pretrained(directory)
