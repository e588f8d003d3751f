"""Softmax attention over a lift. Nowhere else in the library is it computed."""

from .dispatch import (
    PATHS,
    Case,
    Path,
    attend,
    attention_weights,
    choose_path,
    record_paths,
    why_not,
)

__all__ = [
    "PATHS",
    "Case",
    "Path",
    "attend",
    "attention_weights",
    "choose_path",
    "record_paths",
    "why_not",
]
