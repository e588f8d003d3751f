"""Data as a configuration, readable without numpy or torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar

from .image_configs import ImagesConfig
from .instruction_configs import InstructionsConfig
from .speech_configs import SpeechConfig

RECIPE = 1  # of made-up utterances (symbols.py): raise it when they change
PROBE_RECIPE = 1  # of probes (probes.py): raise it when they change
ABILITIES = ("recall", "induction", "copying", "clustering")


@dataclass(frozen=True)
class DataConfig:
    """Which text, and what a token is.

    Args:
        name: stdlib, shakespeare, enwik8-prefix, random-characters, or file (yours; needs path)
        tokens: bytes, or characters (the vocabulary is that of the training split)
        path: the text file, for name file
    """

    NAMES: ClassVar[tuple[str, ...]] = (
        "stdlib",
        "shakespeare",
        "enwik8-prefix",
        "random-characters",
        "file",
    )
    name: str = "stdlib"
    tokens: str = "bytes"
    path: str | None = None


@dataclass(frozen=True)
class SymbolsConfig:
    """Made-up utterances: symbols with durations, rendered to frames; the true alignment is known.

    Args:
        name: symbols
        vocabulary: number of symbols
        shortest: symbols per utterance, at least
        longest: symbols per utterance, at most (one test set has twice as many)
        features: numbers per frame
        jitter: standard deviation of the logarithm of durations, which no model can know
        noise: standard deviation of the noise on frames, which no model can know
    """

    NAMES: ClassVar[tuple[str, ...]] = ("symbols",)
    name: str = "symbols"
    vocabulary: int = 20
    shortest: int = 12
    longest: int = 24
    features: int = 20
    jitter: float = 0.1
    noise: float = 0.2

    def __post_init__(self) -> None:
        for field in ("vocabulary", "shortest", "features"):
            if getattr(self, field) < 1:
                raise ValueError(f"data.{field} must be at least 1; it is {getattr(self, field)}")
        if self.longest < self.shortest:
            raise ValueError(
                "data.longest must not be below data.shortest, but they are "
                f"{self.longest} and {self.shortest}"
            )
        for field in ("jitter", "noise"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"data.{field} must not be negative; it is {getattr(self, field)}")

    def digest(self) -> str:
        """A hash of the recipe and its numbers: what the data are."""
        return _digest(RECIPE, self)

    def describe(self) -> str:
        """The data in a few words."""
        return (
            f"symbols (made up, recipe {RECIPE}: {self.shortest} to {self.longest} of "
            f"{self.vocabulary} symbols, {self.features} numbers a frame)"
        )


@dataclass(frozen=True)
class ProbeConfig:
    """Made-up sequences that ask for one ability.

    Args:
        name: recall, induction, copying or clustering
        length: tokens of a sequence (a second test has twice as many)
    """

    NAMES: ClassVar[tuple[str, ...]] = ABILITIES
    name: str = "recall"
    length: int = 64

    def __post_init__(self) -> None:
        if self.name not in ABILITIES:
            raise ValueError(
                f"data.name of a probe is one of {', '.join(ABILITIES)}, not {self.name!r}"
            )
        if self.length < 16:
            raise ValueError(f"data.length must be at least 16; it is {self.length}")

    def digest(self) -> str:
        """A hash of the recipe and its numbers: what the data are."""
        return _digest(PROBE_RECIPE, self)

    def describe(self) -> str:
        """The data in a few words."""
        return f"{self.name} (made up, recipe {PROBE_RECIPE}: {self.length} tokens)"


def _digest(recipe: int, config: SymbolsConfig | ProbeConfig) -> str:
    text = json.dumps([recipe, dataclasses.asdict(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


Data = DataConfig | SymbolsConfig | ProbeConfig | SpeechConfig | ImagesConfig | InstructionsConfig


def trained_on(data: Data) -> Data:
    """``data`` without what is only tested on."""
    return dataclasses.replace(data, real="none") if isinstance(data, SpeechConfig) else data
