"""Language models by the name of their architecture."""

from __future__ import annotations

import json
from pathlib import Path

from .base import CausalModel
from .configs import ModelConfig
from .language import LanguageModel
from .phase import PhaseLanguageModel

ARCHITECTURES: dict[str, type[CausalModel]] = {
    "transformer": LanguageModel,
    "phase": PhaseLanguageModel,
}


def build_model(config: ModelConfig) -> CausalModel:
    """The model that ``config`` describes."""
    return ARCHITECTURES[config.architecture](config)  # type: ignore[call-arg]


def load_model(directory: str | Path) -> CausalModel:
    """The model that ``save_pretrained`` wrote, whichever it is.

    Raises ``FileNotFoundError`` or ``ValueError`` when a file is missing or does not fit.
    """
    path, architecture = Path(directory) / "config.json", None
    if path.is_file():
        try:
            architecture = json.loads(path.read_text()).get("architecture")
        except (ValueError, AttributeError):  # from_pretrained says what is wrong
            architecture = None
    if architecture == "speech":
        raise ValueError(
            f"{directory} holds a model of speech, which takes phonemes; hear it with `resonant "
            "speak`, load it with SpeechTransformer.from_pretrained"
        )
    if architecture == "frames":
        raise ValueError(
            f"{directory} holds a model from symbols to frames, which takes and makes no text; "
            "load it with FrameTransformer.from_pretrained, see where it looks with "
            "`resonant report` on the comparison's folder"
        )
    return ARCHITECTURES.get(architecture or "", LanguageModel).from_pretrained(directory)
