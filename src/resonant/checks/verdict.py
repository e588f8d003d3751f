"""What one check of a model found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["holds", "fails", "not checked"]


@dataclass(frozen=True)
class Verdict:
    """One check. ``worst`` is the largest difference found, ``layer`` where it first appears."""

    check: str
    status: Status
    says: str
    worst: float | None = None
    layer: str | None = None
