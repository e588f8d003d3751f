"""What data are, whichever kind: a hash, and a few words for tables."""

from __future__ import annotations

from pathlib import Path

from .configs import Data, DataConfig
from .text import describe, load_corpus


def inspect(data: Data, data_dir: Path | None) -> tuple[str, str]:
    """A hash of the data, and what they are in a few words.

    Raises ``UserError`` for a text that cannot be had.
    """
    if not isinstance(data, DataConfig):
        return data.digest(), data.describe()
    corpus = load_corpus(data, data_dir)
    return corpus.digest, describe(corpus)
