"""What runs need beside their data, made once before any begins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..data.configs import Data, SpeechConfig


def keep_recognizers(data: Iterable[Data], data_dir: Path | None) -> None:
    """Teach the recognizer of each kind of speech, where the cache folder does not have it."""
    for config in {each for each in data if isinstance(each, SpeechConfig)}:
        from ..data.speech import load_speech  # torch, and packages of an extra
        from .recognizer import load_recognizer

        load_recognizer(load_speech(config, data_dir))
