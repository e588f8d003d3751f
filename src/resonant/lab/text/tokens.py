"""What a token id stands for: a byte, or a character of the training text."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...files import damaged, write_atomically
from ..kit.contents import TEXT, read_held, record

CHARACTERS = "characters.json"  # in a run's folder: what its token ids stand for
HELD = record({"characters": TEXT, "sha256": TEXT})
UNKNOWN = 0  # the id of characters that the training text does not have
PIECE = 1 << 20  # characters that are encoded at once
SHOWN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Tokenizer:
    """Text to ids and back. ``characters`` None: bytes; else id i is ``characters[i - 1]``."""

    characters: str | None = None

    @classmethod
    def of(cls, text: str) -> Tokenizer:
        """The tokenizer by the characters of ``text``."""
        return cls("".join(sorted(set(text))))

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return 256 if self.characters is None else 1 + len(self.characters)

    def encode(self, text: str | bytes) -> np.ndarray:
        """The ids of a text; characters it does not know become ``UNKNOWN``."""
        if self.characters is None:
            raw = text.encode() if isinstance(text, str) else text
            return np.frombuffer(raw, dtype=np.uint8)
        text = text if isinstance(text, str) else text.decode("utf-8", errors="replace")
        table = np.full(sys.maxunicode + 1, UNKNOWN, dtype=np.int32)
        table[[ord(character) for character in self.characters]] = 1 + np.arange(
            len(self.characters), dtype=np.int32
        )
        ids = np.empty(len(text), dtype=np.int32)
        for start in range(0, len(text), PIECE):
            piece = text[start : start + PIECE].encode("utf-32-le", errors="surrogatepass")
            ids[start : start + PIECE] = table[np.frombuffer(piece, dtype="<u4")]
        return ids

    def decode(self, ids: np.ndarray) -> str:
        """Token ids as text; what cannot be shown becomes the replacement character."""
        if self.characters is None:
            raw = bytes(int(i) if i < 256 else 255 for i in ids)
            return raw.decode("utf-8", errors="replace")
        table = SHOWN + self.characters
        return "".join(table[i] if i < len(table) else SHOWN for i in ids)

    def save(self, directory: Path) -> None:
        """Write what ``load`` reads; bytes need nothing."""
        if self.characters is not None:
            said = {"characters": self.characters, "sha256": _digest(self.characters)}
            content = json.dumps(said, ensure_ascii=False, indent=1).encode()
            write_atomically(directory / CHARACTERS, content, "characters")

    @classmethod
    def load(cls, directory: Path) -> Tokenizer:
        """The tokenizer of a saved model: by bytes where no characters were saved.

        Raises ``UserError`` for a damaged file.
        """
        path = directory / CHARACTERS
        if not path.is_file():
            return cls(None)
        said = read_held(path, HELD)
        if said["sha256"] != _digest(said["characters"]):
            raise damaged(path, "its checksum does not fit its characters")
        return cls(said["characters"])


def _digest(characters: str) -> str:
    return hashlib.sha256(characters.encode()).hexdigest()
