"""What data are, whichever kind: a hash, and a few words for tables."""

from __future__ import annotations

from pathlib import Path

from . import instructions
from .configs import Data, DataConfig, ImagesConfig, InstructionsConfig, SpeechConfig
from .text import describe, load_corpus


def inspect(data: Data, data_dir: Path | None) -> tuple[str, str]:
    """A hash of the data, and what they are in a few words.

    Speech is made here where the cache does not have it.

    Raises ``UserError`` for a text, voice, recording or picture that cannot be had.
    """
    if isinstance(data, SpeechConfig):
        from . import speech  # packages of an extra

        made = speech.load_speech(data, data_dir)
        return made.digest, speech.describe(made)
    if isinstance(data, ImagesConfig):
        from . import images

        found = images.load_images(data, data_dir)
        return found.digest, images.describe(found, data)
    if isinstance(data, InstructionsConfig):
        examples = instructions.load_instructions(data)
        return examples.digest, instructions.describe(examples)
    if not isinstance(data, DataConfig):
        return data.digest(), data.describe()
    corpus = load_corpus(data, data_dir)
    return corpus.digest, describe(corpus)
