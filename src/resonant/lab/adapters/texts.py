"""Texts that a language model of transformers reads whole: prose, code, conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import UserError
from ..kit.download import Remote, fetch
from ..text.config import TextConfig
from ..text.corpus import load_corpus
from .config import BESIDE, InstructionsConfig
from .instructions import load_instructions
from .tokenized import rendered

WIKITEXT = Remote(
    name="wikitext-2",
    file="valid.txt",
    url="https://raw.githubusercontent.com/pytorch/examples/77f55b912142/word_language_model/"
    "data/wikitext-2/valid.txt",
    sha256="f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
)
SYSTEM = "You say in one sentence what a function of Python's library does."
PROSE_CHARACTERS = 200_000  # more than is read of any


def text_of(name: str, tokenizer: Any, data_dir: Path | None) -> str:
    """Read the text called ``name``.

    "wikitext-2" are articles of Wikipedia, "code" is source of Python's library that no model here
    was trained on, "chat" are conversations about such functions, in the tokenizer's own template.

    Any other name is that of a file of text.

    Raises ``UserError`` for a file that is not here, and a chat without a template.
    """
    if name not in BESIDE:
        return _own(Path(name))[:PROSE_CHARACTERS]
    if name == "wikitext-2":
        return fetch(WIKITEXT, data_dir)[:PROSE_CHARACTERS].decode("utf-8", errors="ignore")
    if name == "code":
        code = load_corpus(TextConfig(name="stdlib")).splits["valid"][:PROSE_CHARACTERS]
        return bytes(code.tolist()).decode("utf-8", errors="replace")
    examples = load_instructions(InstructionsConfig()).splits["valid"]
    return "".join(
        rendered(
            tokenizer,
            [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": each.prompt.rstrip().removesuffix('"""').rstrip()},
                {"role": "assistant", "content": each.response.strip().removesuffix('"""')},
            ],
        )
        for each in examples
    )


def _own(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check --text") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text ({error}); convert it") from error


def windows(text: str, tokenizer: Any, count: int, length: int) -> list[list[int]]:
    """Cut off token ids of the first ``count`` pieces of ``text``, ``length`` tokens each.

    No token is added to begin with. Pieces that the text is too short for are left out.
    """
    # Some five characters a token: not all of a long text is tokenized for its first pieces.
    for characters in (12 * count * length, len(text)):
        ids = tokenizer(text[:characters], add_special_tokens=False)["input_ids"]
        if len(ids) >= count * length:
            break
    pieces = [ids[start : start + length] for start in range(0, len(ids), length)]
    return [piece for piece in pieces[:count] if len(piece) == length]
