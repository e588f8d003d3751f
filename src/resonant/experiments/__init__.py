"""Experiments by name, one a file: arms as configurations."""

from .align import EXPERIMENT as _ALIGN
from .experiment import Arm, Experiment
from .shakespeare import EXPERIMENT as _SHAKESPEARE
from .stdlib import EXPERIMENT as _STDLIB

EXPERIMENTS: dict[str, Experiment] = {e.name: e for e in (_STDLIB, _SHAKESPEARE, _ALIGN)}

__all__ = ["EXPERIMENTS", "Arm", "Experiment"]
