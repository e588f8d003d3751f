"""Short phrases out of a text: what is to be spoken."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

from ...errors import UserError
from ..text.config import TextConfig
from ..text.corpus import SPLITS, load_corpus
from .config import SpeechConfig

# Two to five words, a comma or a full stop before and after: what is said in one breath.
WORD = r"[^\W\d_](?:[^\W\d_]|')*"
CLAUSE = re.compile(rf"(?:^|[.,;:!?\n])[ ]*({WORD}(?: {WORD}){{1,4}})(?=[.,;:!?\n])")
CURLY = str.maketrans("\N{RIGHT SINGLE QUOTATION MARK}", "'")
LETTERS_A_SECOND = 17  # at 175 words per minute; what turns out too long is left out


def phrases(config: SpeechConfig, data_dir: Path | None) -> dict[str, list[str]]:
    """Phrases by split, in an order that depends on the text alone; none is in two splits.

    Raises ``UserError`` for a text that cannot be had, or that has too few of them.
    """
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    texts = _texts(config, data_dir)
    # What is tested on is chosen first: a phrase of two splits is lost to training.
    for split in reversed(SPLITS):
        unique = set(clauses_of(texts[split], config))
        ordered = sorted(phrase for phrase in unique if phrase not in seen)
        seen.update(ordered)
        random.Random(split).shuffle(ordered)
        found[split] = ordered
    needed = {"train": config.utterances, "valid": config.held_out, "test": 4 * config.held_out}
    for split, wanted in needed.items():
        if len(found[split]) < wanted:
            raise UserError(
                f"the text {config.path or config.text!r} has {len(found[split])} phrases for the "
                f"{split} split, fewer than {wanted} (a phrase: two to five words between commas, "
                "full stops or line ends, no numbers, no capitals inside); use a longer text, or "
                "lower --data.utterances and --data.held_out"
            )
    return found


def digest(found: dict[str, list[str]]) -> str:
    """A hash of all phrases."""
    text = "\0".join(phrase for split in SPLITS for phrase in found[split])
    return hashlib.sha256(text.encode()).hexdigest()


def _texts(config: SpeechConfig, data_dir: Path | None) -> dict[str, str]:
    corpus = load_corpus(TextConfig(name=config.text, path=config.path), data_dir)
    texts = {
        split: bytes(corpus.splits[split].astype("uint8")).decode("utf-8", errors="replace")
        for split in SPLITS
    }
    return {n: _comments(t) for n, t in texts.items()} if config.text == "stdlib" else texts


def _comments(source: str) -> str:
    """What a Python source says in English: its comments, a line each."""
    return "\n".join(line.partition("# ")[2] + "." for line in source.splitlines() if "# " in line)


def clauses_of(text: str, config: SpeechConfig) -> list[str]:
    """Split a text into clauses that can be spoken, in lower case."""
    most = int(config.longest * LETTERS_A_SECOND)
    found = (each for each in CLAUSE.findall(text.translate(CURLY)) if len(each) <= most)
    return [each.lower() for each in found if _plain(each)]


def _plain(phrase: str) -> bool:
    """Whether no word has capitals but for its first letter."""
    return all(word[1:] == word[1:].lower() for word in phrase.split())
