"""What reports show of problems of one's own."""

from ..kit.domain import Section
from .tables import score_tables

SECTIONS = (Section("Other scores", tables=score_tables, first=True),)
