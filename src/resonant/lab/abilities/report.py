"""What reports show of abilities."""

from ..kit.domain import Section
from .tables import ability_tables

SECTIONS = (Section("Abilities", tables=ability_tables, first=True),)
