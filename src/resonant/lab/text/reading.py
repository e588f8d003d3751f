"""A trained model of text, opened to read and to write."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ...models.architectures import load_model
from ...models.base import CausalModel
from .tokens import Tokenizer

READERS = ("transformer", "phase")  # architectures of models of text


def open_text_model(directory: Path) -> tuple[CausalModel, Tokenizer]:
    """Open the model that a run left in ``directory``, and what its token ids stand for.

    Raises ``UserError`` for a model that was not trained on text, ``FileNotFoundError`` or
    ``ValueError`` for a file that is missing or does not fit.
    """
    model = load_model(directory)
    if model.config.architecture not in READERS:
        raise UserError(
            f"{directory} holds a model of architecture {model.config.architecture!r}, which reads "
            "and writes no text; see what it does with `resonant report` on the comparison's folder"
        )
    tokenizer = Tokenizer.load(directory)
    if model.config.vocabulary < tokenizer.vocabulary:
        raise UserError(
            f"{directory} holds a model of {model.config.vocabulary} made-up ids, which reads and "
            "writes no text; see what it does with `resonant report` on the comparison's folder"
        )
    return model, tokenizer
