"""Corpora of text as arrays of token ids, split into train, valid and test."""

from __future__ import annotations

import codecs
import hashlib
import platform
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import UserError, nearest
from ..kit.download import Remote, fetch
from .config import TextConfig
from .tokens import Tokenizer

TINY_SHAKESPEARE = Remote(
    name="shakespeare",
    file="input.txt",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
)
ENWIK8_PREFIX = Remote(
    name="enwik8-prefix",
    file="enwik8_first_4000000.gz",
    url="http://mattmahoney.net/dc/enwik8.zip",
    sha256="9f9ca3a41e2b87a0268d00380577e2c308e07959b22a94c8d7b1e8901bdefc37",
    member="enwik8",
    length=4_000_000,
)
# How a text begins in what encoding.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
RANDOM_CHARACTERS = b"abcdefgh"
RANDOM_KEY = 2026
RANDOM_LENGTH = 4_000_000
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Corpus:
    """Token ids by split, what they stand for, and a hash of the text."""

    name: str
    splits: dict[str, np.ndarray]
    digest: str
    tokenizer: Tokenizer = field(default_factory=Tokenizer)


def load_corpus(config: TextConfig, data_dir: Path | None = None) -> Corpus:
    """The text that ``config`` names, tokenized and split.

    Raises ``UserError`` for an unknown name or kind of token, a missing file, a wrong hash, or a
    text too short to split.
    """
    if config.tokens not in ("bytes", "characters"):
        raise UserError(
            f"data.tokens is bytes or characters, not {config.tokens!r}; "
            f"{nearest(config.tokens, ('bytes', 'characters'))}"
        )
    sources = {
        "stdlib": _stdlib,
        "shakespeare": _shakespeare,
        "enwik8-prefix": _enwik8_prefix,
        "random-characters": _random_characters,
        "file": _file,
    }
    if config.name not in sources:
        raise UserError(f"no data is called {config.name!r}; {nearest(config.name, sources)}")
    if config.path is not None and config.name != "file":
        raise UserError(
            f"data.path is read with --data.name file only, but the name is {config.name!r}"
        )
    texts = sources[config.name](config, data_dir)
    digest = hashlib.sha256(b"\0".join(texts[split] for split in SPLITS)).hexdigest()
    tokenizer = Tokenizer()
    if config.tokens == "characters":
        tokenizer = Tokenizer.of(texts["train"].decode("utf-8", errors="replace"))
    ids = {split: tokenizer.encode(texts[split]) for split in SPLITS}
    return Corpus(config.name, ids, digest, tokenizer)


def describe(corpus: Corpus) -> str:
    """One line for tables: the data's name, size, hash, and the Python whose library it is."""
    size = sum(len(ids) for ids in corpus.splits.values()) / 1e6
    source = f" of Python {platform.python_version()}" if corpus.name == "stdlib" else ""
    unit = "bytes" if corpus.tokenizer.characters is None else "characters"
    return f"{corpus.name}{source}, {size:.2f}M {unit}, sha256 {corpus.digest[:12]}"


def _stdlib(config: TextConfig, data_dir: Path | None) -> dict[str, bytes]:
    """The source of Python's own standard library, split by the hash of each file's name."""
    parts: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    for split, path in stdlib_files():
        parts[split].append(path.read_bytes())
    if any(not files for files in parts.values()):
        raise UserError(
            f"this Python has no source of its standard library in {_stdlib_root()}; install the "
            "full Python, or use --data.name file --data.path TEXT"
        )
    return {split: b"".join(files) for split, files in parts.items()}


def stdlib_files() -> Iterator[tuple[str, Path]]:
    """The files of Python's standard library, tests apart, each with its split."""
    root = _stdlib_root()
    skipped = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if skipped.isdisjoint(relative.parts):
            yield split_of(relative.as_posix()), path


def split_of(name: str) -> str:
    """train, valid or test (90, 5 and 5 %), drawn by the hash of ``name``."""
    draw = hashlib.sha256(name.encode()).digest()[0] / 256
    return "train" if draw < 0.9 else "valid" if draw < 0.95 else "test"


def _stdlib_root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _shakespeare(config: TextConfig, data_dir: Path | None) -> dict[str, bytes]:
    return _by_length(fetch(TINY_SHAKESPEARE, data_dir), "shakespeare")


def _enwik8_prefix(config: TextConfig, data_dir: Path | None) -> dict[str, bytes]:
    return _by_length(fetch(ENWIK8_PREFIX, data_dir), "enwik8-prefix")


def _random_characters(config: TextConfig, data_dir: Path | None) -> dict[str, bytes]:
    """Independent uniform characters: nobody who does not see the future can predict them."""
    kinds = np.frombuffer(RANDOM_CHARACTERS, dtype=np.uint8)
    drawn = np.random.Generator(np.random.Philox(key=RANDOM_KEY)).choice(kinds, RANDOM_LENGTH)
    return _by_length(drawn.tobytes(), "random-characters")


def _file(config: TextConfig, data_dir: Path | None) -> dict[str, bytes]:
    if config.path is None:
        raise UserError("data.name file needs --data.path, the text file to train on")
    path = Path(config.path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file (a folder, a pipe or a device); check --data.path")
    try:
        text = _as_utf8(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check --data.path") from error
    splits = _by_length(text, str(path))
    if config.tokens == "characters":
        _check_utf8(text, path)
        # Where the text is cut into splits, a character may be: it is left out.
        splits = {name: part.decode(errors="ignore").encode() for name, part in splits.items()}
    return splits


def _as_utf8(text: bytes, path: Path) -> bytes:
    """The text without a byte order mark, which says what other encoding it has."""
    for mark, encoding in MARKS.items():
        if text.startswith(mark):
            try:
                return text.decode(encoding).encode()
            except UnicodeError as error:
                raise UserError(
                    f"{path} begins as {encoding} does and is none ({error}); save it as UTF-8"
                ) from error
    return text


def _check_utf8(text: bytes, path: Path) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8 (line {line}: byte {text[error.start]:#x}), so it has no "
            "characters; save it as UTF-8, or train on its bytes (--data.tokens bytes)"
        ) from error


def _by_length(text: bytes, name: str) -> dict[str, bytes]:
    """The first 90 % to train on, the next 5 % to validate, the last 5 % to test."""
    if len(text) < 20_000:
        raise UserError(
            f"{name} has {len(text)} bytes; a comparison needs at least 20000 to split into train, "
            "valid and test. Use a longer text"
        )
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    return {"train": text[:first], "valid": text[first:second], "test": text[second:]}
