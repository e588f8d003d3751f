"""Models by the name of their architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import nearest
from ..files import MODEL_CONFIG
from .frames import FrameTransformer
from .language import LanguageModel
from .phase import PhaseLanguageModel
from .pixels import PixelModel
from .pretrained import read_description
from .speech import SpeechTransformer
from .swin import SwinTransformer
from .vision import VisionTransformer

ARCHITECTURES: dict[str, Any] = {
    "transformer": LanguageModel,
    "phase": PhaseLanguageModel,
    "vision": VisionTransformer,
    "swin": SwinTransformer,
    "pixels": PixelModel,
    "frames": FrameTransformer,
    "speech": SpeechTransformer,
}


def build_model(config: Any) -> Any:
    """Build the model that ``config`` describes."""
    return ARCHITECTURES[config.architecture](config)


def load_model(directory: str | Path) -> Any:
    """Open the model in a run's folder, or in any that ``save_pretrained`` wrote, whichever it is.

    Raises ``FileNotFoundError`` or ``ValueError`` when a file is missing or does not fit.
    """
    path = Path(directory) / MODEL_CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} holds no {MODEL_CONFIG}; give a folder written by save_pretrained"
        )
    architecture = read_description(path).get("architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path} describes no model of ours (architecture {architecture!r}); "
            f"{nearest(str(architecture), ARCHITECTURES)}"
        )
    return ARCHITECTURES[architecture].from_pretrained(directory)
