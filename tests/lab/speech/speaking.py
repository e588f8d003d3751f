"""A little speech for tests, spoken once and shared by all of them."""

import os
import random
from pathlib import Path

import pytest

from resonant.lab.speech.config import SpeechConfig
from resonant.lab.speech.corpus import SpeechCorpus, load_speech

WORDS = ("red", "bird", "sings", "home", "cold", "wind", "we", "go", "see", "my", "old", "dog")
TINY = ("--data.utterances", "24", "--data.held_out", "6", "--training.evaluation_windows", "3")


def write_text(folder: Path) -> Path:
    """A text long enough to split, in phrases of two or three words."""
    draw = random.Random(0)
    phrases = (" ".join(draw.sample(WORDS, draw.choice((2, 3)))) for _ in range(2500))
    path = folder / "phrases.txt"
    path.write_text(", ".join(phrases) + ",\n")
    return path


@pytest.fixture(scope="session")
def spoken_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The text, at one path for all workers: the cache goes by what was asked for."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "speech"
    folder.mkdir(exist_ok=True)
    path = folder / "phrases.txt"
    return path if path.is_file() else write_text(folder)


@pytest.fixture
def speech_cache(spoken_text: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of tests, in place of the user's."""
    folder = spoken_text.parent / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    load_speech.cache_clear()
    return folder


def tiny_config(text: Path, **changes: object) -> SpeechConfig:
    """What the tests speak."""
    sizes = {"utterances": 24, "held_out": 6, "text": "file", "path": str(text)}
    return SpeechConfig(**(sizes | changes))  # type: ignore[arg-type]


@pytest.fixture
def corpus(spoken_text: Path, speech_cache: Path) -> SpeechCorpus:
    """24 utterances to train on, 6 to validate, 6 to test."""
    return load_speech(tiny_config(spoken_text), None)
