"""Texts as a configuration, readable without numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..kit.config import Data


@dataclass(frozen=True)
class TextConfig(Data):
    """Which text, and what a token is.

    Args:
        name: stdlib, shakespeare, enwik8-prefix, random-characters, or file (yours; needs path)
        tokens: bytes, or characters (the vocabulary is that of the training split)
        path: the text file, for name file
    """

    NAMES: ClassVar[tuple[str, ...]] = (
        "stdlib",
        "shakespeare",
        "enwik8-prefix",
        "random-characters",
        "file",
    )
    name: str = "stdlib"
    tokens: str = "bytes"
    path: str | None = None
