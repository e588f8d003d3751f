"""Symbols to frames, whose true alignment is known."""
