"""The laboratory: arms, seeds and tables, for our questions and for yours. Extra ``lab``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kit.config import TrainingConfig
    from .own.comparison import Comparison
    from .own.door import run_comparison
    from .own.run import Run
    from .problem.problem import Problem

__all__ = ["Comparison", "Problem", "Run", "TrainingConfig", "run_comparison"]

_HOME = {
    "Comparison": "own.comparison",
    "Problem": "problem.problem",
    "Run": "own.run",
    "TrainingConfig": "kit.config",
    "run_comparison": "own.door",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'resonant.lab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"resonant.lab.{_HOME[name]}"), name)
