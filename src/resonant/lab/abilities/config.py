"""Abilities as a configuration, readable without numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..kit.config import Data, digest

RECIPE = 1  # of sequences.py: raise it when they change
ABILITIES = ("recall", "induction", "copying", "clustering")


@dataclass(frozen=True)
class AbilityConfig(Data):
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
        return digest(RECIPE, self)

    def describe(self) -> str:
        """The data in a few words."""
        return f"{self.name} (made up, recipe {RECIPE}: {self.length} tokens)"
