"""What a run ran on: written into it, never into its hash."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

from ...version import VERSION

CPU = Path("/proc/cpuinfo")


def with_this_machine(before: list[dict[str, str]]) -> list[dict[str, str]]:
    """Add what this process runs on to what a run was made with, if it is new."""
    now = this_machine()
    return [*before, *([] if now in before else [now])]


def this_machine() -> dict[str, str]:
    """Gather the versions of resonant, torch and Python, and the processor."""
    return {
        "resonant": VERSION,
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
        "processor": processor(),
    }


def processor() -> str:
    """Name the processor as the system does."""
    try:
        for line in CPU.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
