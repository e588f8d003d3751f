"""Experiments by name, one a file: arms as configurations."""

from .experiment import Arm, Experiment
from .shakespeare import EXPERIMENT as _SHAKESPEARE
from .stdlib import EXPERIMENT as _STDLIB

EXPERIMENTS: dict[str, Experiment] = {e.name: e for e in (_STDLIB, _SHAKESPEARE)}

__all__ = ["EXPERIMENTS", "Arm", "Experiment"]
