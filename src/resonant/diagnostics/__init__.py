"""Read-only measurements of models at work."""

from .alignment import AlignmentScores, along_path, measure_alignment, record_clocks
from .phases import PhaseRecord, record_phases

__all__ = [
    "AlignmentScores",
    "PhaseRecord",
    "along_path",
    "measure_alignment",
    "record_clocks",
    "record_phases",
]
