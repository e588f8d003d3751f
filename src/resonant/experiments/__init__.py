"""Experiments by name, one a file: arms as configurations."""

from .align import EXPERIMENT as _ALIGN
from .energy_gate import EXPERIMENT as _ENERGY_GATE
from .energy_gate import PUBLISHED as _ENERGY_GATE_PUBLISHED
from .experiment import Arm, Experiment
from .probes import EXPERIMENT as _PROBES
from .random_characters import EXPERIMENT as _RANDOM_CHARACTERS
from .shakespeare import EXPERIMENT as _SHAKESPEARE
from .speech import EXPERIMENT as _SPEECH
from .speech import FULL as _SPEECH_FULL
from .stdlib import EXPERIMENT as _STDLIB

_ALL = (
    _STDLIB,
    _SHAKESPEARE,
    _PROBES,
    _ALIGN,
    _SPEECH,
    _SPEECH_FULL,
    _ENERGY_GATE,
    _ENERGY_GATE_PUBLISHED,
    _RANDOM_CHARACTERS,
)
EXPERIMENTS: dict[str, Experiment] = {each.name: each for each in _ALL}

__all__ = ["EXPERIMENTS", "Arm", "Experiment"]
