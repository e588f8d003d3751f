"""What reports show of adapters."""

from ..kit.domain import Section
from .tables import adapter_tables

SECTIONS = (Section("Adapters", tables=adapter_tables),)
