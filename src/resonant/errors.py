"""The one error a user of the command line is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A clear sentence with the next move; the command line prints it and exits with 2."""


def in_words(error: Exception) -> str:
    """A stranger's exception on one line: its kind and, cut short, what it says."""
    try:
        said = str(error)
    except Exception:  # a stranger's exception may not even say what it is
        said = "which cannot be said"
    return f"{type(error).__name__}: {' '.join(said.split())[:300]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def check_seed(seed: int) -> None:
    """Raise ``UserError`` for a seed that no generator of random numbers takes."""
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed is a whole number from 0 to 2^63 - 1; it is {seed}")
