"""What one check of a model found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Status = Literal["holds", "fails", "not checked"]
Part = Callable[[str, int], Callable[[int], None]]  # (check, calls of the model) -> calls done


def silent(check: str, count: int) -> Callable[[int], None]:
    """Report no progress."""
    del check, count
    return lambda done: None


@dataclass(frozen=True)
class Verdict:
    """One check. ``worst`` is the largest difference found, ``layer`` where it first appears."""

    check: str
    status: Status
    says: str
    worst: float | None = None
    layer: str | None = None
