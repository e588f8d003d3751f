"""Prompts and responses as a configuration, readable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..kit.config import Data

BESIDE = ("wikitext-2", "code", "chat")  # texts that a language model reads whole
NEAR = "sinks_near"  # in a run's numbers: sinks over the first tokens, which every window holds
NEAR_TOKENS = 32
TOO_LONG = "too_long"  # in a run's numbers: examples whose response begins beyond the context


@dataclass(frozen=True)
class InstructionsConfig(Data):
    """Prompts with responses, of which the responses are learned.

    Args:
        name: stdlib-docs (heads of functions of Python's library and what they do), or jsonl
        path: the file of JSON lines, for name jsonl: prompt and response, or messages, on each
        beside: a text whose loss is measured at the end too, wikitext-2, code or chat (none: none)
    """

    NAMES: ClassVar[tuple[str, ...]] = ("stdlib-docs", "jsonl")
    name: str = "stdlib-docs"
    path: str | None = None
    beside: str | None = None

    def __post_init__(self) -> None:
        if self.name not in self.NAMES:
            known = ", ".join(self.NAMES)
            raise ValueError(f"data.name of instructions is one of {known}, not {self.name!r}")
        if self.beside not in (None, *BESIDE):
            raise ValueError(f"data.beside is one of {', '.join(BESIDE)}, not {self.beside!r}")
        if (self.name == "jsonl") != (self.path is not None):
            raise ValueError(
                "data.name jsonl and data.path, the file of your prompts and responses, belong "
                "together; give both or neither"
            )
