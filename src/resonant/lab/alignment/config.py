"""Made-up utterances as a configuration, readable without numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..kit.config import Data, digest

RECIPE = 1  # of made-up utterances (symbols.py): raise it when they change


@dataclass(frozen=True)
class SymbolsConfig(Data):
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
        return digest(RECIPE, self)

    def describe(self) -> str:
        """The data in a few words."""
        return (
            f"symbols (made up, recipe {RECIPE}: {self.shortest} to {self.longest} of "
            f"{self.vocabulary} symbols, {self.features} numbers a frame)"
        )
