"""Mechanisms and gates that the user registered, which code reaches by their names alone."""

from __future__ import annotations

from ....mechanism import OURS, mechanisms
from ....nn.energy import registered_gates
from ..plugins import is_ours
from .identity import digest_leniently


def registered_code() -> dict[str, str]:
    """Hash every mechanism and gate that is none of this package, by its name."""
    ours = {each.name for each in OURS}
    found = {name: each for name, each in mechanisms().items() if name not in ours}
    found |= {name: g for name, g in registered_gates().items() if not is_ours(g.__module__)}
    return {name: digest_leniently(each) for name, each in sorted(found.items())}
