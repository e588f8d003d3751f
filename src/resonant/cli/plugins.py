"""Plugins on a command line, which are imported before anything else is parsed."""

from __future__ import annotations


def plugins_given(arguments: list[str]) -> str | None:
    """Find what ``--plugins`` says, before there is a parser; the last one counts."""
    found = None
    for option, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, equals, value = option.partition("=")
        if name == "--plugins":
            found = value if equals else following
    return found
