"""Experiments on text, one a file."""

from ..kit.experiment import Experiment
from .energy_gate import EXPERIMENT as ENERGY_GATE
from .energy_gate import PUBLISHED as ENERGY_GATE_PUBLISHED
from .enwik8 import EXPERIMENT as ENWIK8
from .random_characters import EXPERIMENT as RANDOM_CHARACTERS
from .shakespeare import EXPERIMENT as SHAKESPEARE
from .stdlib import EXPERIMENT as STDLIB

EXPERIMENTS: tuple[Experiment, ...] = (
    STDLIB,
    SHAKESPEARE,
    ENWIK8,
    ENERGY_GATE,
    ENERGY_GATE_PUBLISHED,
    RANDOM_CHARACTERS,
)
