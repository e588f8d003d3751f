"""What runs need beside their data, made once before any begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..data.configs import SpeechConfig
from ..models.configs import BASES, AdaptedModelConfig
from .configs import RunConfig


def prepare_runs(runs: Iterable[RunConfig], data_dir: Path | None) -> None:
    """Teach recognizers of speech, train small base models, where the cache has none."""
    runs = list(runs)
    for config in {run.data for run in runs if isinstance(run.data, SpeechConfig)}:
        from ..data.speech import load_speech  # torch, and packages of an extra
        from .recognizer import load_recognizer

        load_recognizer(load_speech(config, data_dir))
    models = [run.model for run in runs if isinstance(run.model, AdaptedModelConfig)]
    for base in sorted({model.base for model in models if model.base in BASES}):
        from .bases import base_folder  # transformers

        base_folder(base)
