"""A trained model of text, opened to read and to write."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ...models.architectures import load_model
from ...models.base import CausalModel
from .tokens import Tokenizer


def open_text_model(directory: Path) -> tuple[CausalModel, Tokenizer]:
    """The model that a run left in ``directory``, and what its token ids stand for.

    Raises ``UserError`` for a model that was not trained on text, ``FileNotFoundError`` or
    ``ValueError`` for a file that is missing or does not fit.
    """
    model, tokenizer = load_model(directory), Tokenizer.load(directory)
    if model.config.architecture == "pixels":
        raise UserError(
            f"{directory} holds a model of pixels, which reads and writes no text; see what it "
            "draws with `resonant draw`, what it does with `resonant report` on the comparison's "
            "folder"
        )
    if model.config.vocabulary < tokenizer.vocabulary:
        raise UserError(
            f"{directory} holds a model of {model.config.vocabulary} made-up ids, which reads and "
            "writes no text; see what it does with `resonant report` on the comparison's folder"
        )
    return model, tokenizer
