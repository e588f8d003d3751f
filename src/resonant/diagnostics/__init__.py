"""Read-only measurements of models at work."""

from .phases import PhaseRecord, record_phases

__all__ = ["PhaseRecord", "record_phases"]
