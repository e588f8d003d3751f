"""A problem of one's own and its arms, as configurations of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..kit.config import Data


@dataclass(frozen=True)
class ProblemConfig(Data):
    """A problem of one's own, from Python code.

    Args:
        name: problem
        made_by: its class as module:name; of a script or a notebook its name alone
        fields: its fields as JSON, or their hash
        code: hash of its class and what that stands on
    """

    NAMES: ClassVar[tuple[str, ...]] = ("problem",)
    name: str = "problem"
    made_by: str = ""
    fields: str = "{}"
    code: str = ""


@dataclass(frozen=True)
class ArmConfig:
    """What a problem makes its model of.

    Args:
        value: the arm as JSON, or how it reads and its hash
        architecture: problem
    """

    value: str = "null"
    architecture: str = "problem"
