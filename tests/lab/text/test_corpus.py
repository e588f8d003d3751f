"""Corpora: splits that do not meet, tokens that read back, Shakespeare from a folder."""

import codecs
import dataclasses
import functools
import gzip
import hashlib
import http.server
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from resonant.errors import UserError
from resonant.lab.kit.download import Remote, fetch
from resonant.lab.text import corpus as text_module
from resonant.lab.text.config import TextConfig
from resonant.lab.text.corpus import describe, load_corpus


def test_the_standard_library_is_split_by_file() -> None:
    corpus = load_corpus(TextConfig("stdlib"))
    sizes = {split: len(ids) for split, ids in corpus.splits.items()}
    assert sizes["train"] > 4_000_000
    assert min(sizes["valid"], sizes["test"]) > 100_000
    heads = {s: ids[:2000].tobytes() for s, ids in corpus.splits.items()}
    for split, head in heads.items():
        for other, ids in corpus.splits.items():
            assert (head in ids.tobytes()) == (split == other)
    assert load_corpus(TextConfig("stdlib")).digest == corpus.digest
    assert corpus.digest[:12] in describe(corpus)
    assert "of Python 3." in describe(corpus)


@pytest.fixture
def play(tmp_path: Path) -> Path:
    path = tmp_path / "play.txt"
    path.write_text("To be, or not to be.\n" * 2000 + "ß" * 2000)
    return path


def test_characters_read_back_and_unknown_ones_are_marked(play: Path) -> None:
    corpus = load_corpus(TextConfig("file", "characters", str(play)))
    assert corpus.tokenizer.decode(corpus.splits["train"][:21]) == "To be, or not to be.\n"
    assert corpus.tokenizer.vocabulary == 1 + len(set("To be, or not to be.\n"))
    assert (corpus.splits["test"][-100:] == 0).all()
    assert corpus.tokenizer.decode(corpus.splits["test"][-2:]) == "\ufffd\ufffd"


def test_bytes_read_back(play: Path) -> None:
    corpus = load_corpus(TextConfig("file", "bytes", str(play)))
    assert corpus.tokenizer.vocabulary == 256
    whole = np.concatenate([corpus.splits[s] for s in ("train", "valid", "test")])
    assert whole.tobytes() == play.read_bytes()


def test_shakespeare_from_a_folder_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 1000
    remote = Remote("shakespeare", "input.txt", "unused", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(text_module, "TINY_SHAKESPEARE", remote)
    (tmp_path / "shakespeare").mkdir()
    path = tmp_path / "shakespeare" / "input.txt"
    path.write_bytes(content)
    corpus = load_corpus(TextConfig("shakespeare", "characters"), tmp_path)
    assert corpus.tokenizer.decode(corpus.splits["train"][:14]) == "First Citizen:"
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="its SHA-256 is"):
        load_corpus(TextConfig("shakespeare"), tmp_path)


def test_enwik8_s_beginning_comes_unpacked_from_a_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"<mediawiki>" * 4000
    digest = hashlib.sha256(content).hexdigest()
    remote = Remote("enwik8-prefix", text_module.ENWIK8_PREFIX.file, "unused", digest)
    monkeypatch.setattr(text_module, "ENWIK8_PREFIX", remote)
    path = tmp_path / remote.file
    path.write_bytes(gzip.compress(content))
    corpus = load_corpus(TextConfig("enwik8-prefix"), tmp_path)
    assert corpus.splits["train"].tobytes() == content[:39_600]
    path.write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(UserError, match=r"is damaged .*; fetch it again"):
        load_corpus(TextConfig("enwik8-prefix"), tmp_path)
    path.write_bytes(gzip.compress(content[1:]))
    with pytest.raises(UserError, match="is not enwik8-prefix: its SHA-256 is"):
        load_corpus(TextConfig("enwik8-prefix"), tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"is there\. Put the file there, or leave --data-dir out"):
        load_corpus(TextConfig("enwik8-prefix"), tmp_path)


def test_the_beginning_of_an_archive_s_member_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"<mediawiki>" * 4000
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("whole", content + b"the rest")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/whole.zip"
        remote = Remote("part", "part.gz", url, hashlib.sha256(content).hexdigest())
        remote = dataclasses.replace(remote, member="whole", length=len(content))
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache"))
        wrong = dataclasses.replace(remote, member="hole")
        with pytest.raises(UserError, match="holds no hole"):
            fetch(wrong, None)
        with pytest.raises(UserError, match="is not part: its SHA-256 is not"):
            fetch(dataclasses.replace(remote, length=5), None)
        assert fetch(remote, None) == content
        server.shutdown()
    assert [path.name for path in (tmp_path / "cache").rglob("*.*")] == ["part.gz"]
    assert fetch(remote, None) == content  # nobody serves it any more


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


def test_random_characters_are_uniform_and_independent() -> None:
    corpus = load_corpus(TextConfig("random-characters", "characters"))
    assert load_corpus(TextConfig("random-characters", "characters")).digest == corpus.digest
    ids = corpus.splits["train"]
    assert corpus.tokenizer.characters == "abcdefgh"
    pairs = np.bincount(ids[:-1] * 9 + ids[1:], minlength=81).reshape(9, 9)
    assert (pairs[0] == 0).all()
    expected = pairs.sum() / 64
    chi_squared = ((pairs[1:, 1:] - expected) ** 2 / expected).sum()
    assert chi_squared < 130  # 63 degrees of freedom: above this once in a million draws


def test_a_text_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("short")
    with pytest.raises(UserError, match="has 5 bytes; a comparison needs at least 20000"):
        load_corpus(TextConfig("file", path=str(tmp_path / "x")))


PROSE = "Größe, naïveté, €uro: nothing here is plain. " * 600


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_say_so_are_read(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(PROSE.encode(encoding))
    corpus = load_corpus(TextConfig("file", path=str(path), tokens="characters"))
    assert corpus.tokenizer.characters == "".join(sorted(set(PROSE)))
    read = "".join(corpus.tokenizer.decode(corpus.splits[s]) for s in ("train", "valid", "test"))
    assert len(PROSE) - 2 <= len(read) <= len(PROSE)  # characters that a cut goes through
    assert "\N{REPLACEMENT CHARACTER}" not in read


def test_other_encodings_have_no_characters_but_bytes(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"plain\n" + PROSE.encode("cp1252"))
    with pytest.raises(UserError, match=r"is not UTF-8 \(line 2: byte 0xf6\), .*save it as UTF-8"):
        load_corpus(TextConfig("file", path=str(path), tokens="characters"))
    assert load_corpus(TextConfig("file", path=str(path))).tokenizer.characters is None
    path.write_bytes(codecs.BOM_UTF16_LE + b"odd")
    with pytest.raises(UserError, match="begins as utf-16 does and is none"):
        load_corpus(TextConfig("file", path=str(path)))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="is no file"):
            load_corpus(TextConfig("file", path=str(path)))
