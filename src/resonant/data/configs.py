"""Data as a configuration, readable without numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """Which text, and what a token is.

    Args:
        name: stdlib, shakespeare, or file (your own text; needs path)
        tokens: bytes, or characters (the vocabulary is that of the training split)
        path: the text file, for name file
    """

    name: str = "stdlib"
    tokens: str = "bytes"
    path: str | None = None
