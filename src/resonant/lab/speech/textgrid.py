"""Praat's TextGrids, long and short, read by their grammar.

Praat's manual ("TextGrid file formats") defines both text formats by one rule: what counts are
free-standing numbers, texts in double quotes (a quote within a text is written twice) and flags in
angle brackets; every other word is a comment, and so is the rest of a line after "!". We differ:
what stands where a number should and is none (nan, 0,35) is refused, not a comment.

The libraries looked at take texts and times by regular expressions: praatio 6.2 drops the sign of a
time and is lost where a label holds "intervals [", textgrid 1.6 keeps quotes doubled.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import UserError

_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"]|"")*"(?=\s|\Z))   # a free-standing text
      | (?P<open>")                         # a quote that begins no such text
      | (?P<comment>!.*)                    # to the end of the line
      | (?P<flag><[^<>\s]*>(?=\s|\Z))
      | (?P<word>=|[^\s="]+)""",
    re.VERBOSE,
)
_LIKE_A_NUMBER = re.compile(r"[-+.]*\d|[-+]?(nan|inf|infinity)$|--undefined--$", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_KINDS = {"IntervalTier": True, "TextTier": False}
SAVE_AGAIN = "save it from Praat anew, as a text file"


@dataclass(frozen=True)
class Interval:
    """A labeled part of a recording from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class _Number:
    value: float


def decoded(content: bytes, name: str) -> str:
    """Decode a TextGrid; Praat writes UTF-16 where it needs more than ASCII."""
    if content.startswith(b"ooBinaryFile"):
        raise UserError(f"{name} is one of Praat's binary files; {SAVE_AGAIN}")
    encoding = "utf-8-sig"
    if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif 0 in content[:2]:  # no mark, but the file begins with a letter
        encoding = "utf-16-be" if content[0] == 0 else "utf-16-le"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is neither UTF-8 nor UTF-16 ({error}); save it anew") from error


def read_tiers(text: str, name: str) -> list[tuple[str, list[Interval]]]:
    """Read the tiers of intervals of a TextGrid, in order: their names and intervals.

    Labels and names come without the blanks around them. Tiers of points are passed over.

    Args:
        text: what the file holds, long format or short
        name: of the file, for messages

    Raises ``UserError``, naming file, tier and interval, for what is no TextGrid, for times that
    are no numbers, and for intervals that are empty, run backward or overlap.
    """
    tokens = _Tokens(text, name)
    if (kind := tokens.text("its kind")) not in ("ooTextFile", "ooTextFile short"):
        raise UserError(f"{name} is no TextGrid (it begins with {kind[:40]!r}); {SAVE_AGAIN}")
    if (kind := tokens.text("its class")) != "TextGrid":
        raise UserError(f"{name} holds a {kind[:40]!r} of Praat, not a TextGrid; {SAVE_AGAIN}")
    tokens.number("its start")
    tokens.number("its end")
    tokens.flag("<exists>")
    tiers = []
    for index in range(1, tokens.count("tiers") + 1):
        kind, tier = tokens.text(f"the class of tier {index}"), tokens.text(f"name of tier {index}")
        if kind not in _KINDS:
            raise UserError(f"tier {index} of {name} is a {kind[:40]!r}, which is none of Praat's")
        of = f'tier "{tier}"'
        tokens.number(f"the start of {of}")
        tokens.number(f"the end of {of}")
        found = _intervals(tokens, of, lasting=_KINDS[kind])
        if _KINDS[kind]:
            tiers.append((tier.strip(), found))
    tokens.nothing_left()
    return tiers


def _intervals(tokens: _Tokens, tier: str, *, lasting: bool) -> list[Interval]:
    found: list[Interval] = []
    for index in range(1, tokens.count(f"intervals of {tier}") + 1):
        of = f"interval {index} of {tier}"
        start = tokens.number(f"the start of {of}")
        end = tokens.number(f"the end of {of}") if lasting else start
        label = tokens.text(f"the label of {of}").strip()
        if lasting:
            _check(Interval(start, end, label), found[-1:], f"{of} of {tokens.name}")
        found.append(Interval(start, end, label))
    return found


def _check(one: Interval, before: list[Interval], of: str) -> None:
    """Raise ``UserError`` unless it lasts, begins at 0 or later, and after the one before."""
    times = f"{of}, {one.text[:40]!r}, from {one.start:g} to {one.end:g} s"
    if one.start < 0:
        raise UserError(f"{times}, begins before the recording; mend it in Praat")
    if one.end <= one.start:
        raise UserError(f"{times}, runs backward or is empty; mend it in Praat")
    if before and one.start < before[0].end - 1e-6:
        raise UserError(f"{times}, overlaps the one before; mend it in Praat")


class _Tokens:
    """The numbers, texts and flags of a file, taken one by one."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self._left = self._read(text)

    def _read(self, text: str) -> Iterator[_Number | str]:
        """Read numbers as ``_Number``, texts behind one quote, flags with their brackets."""
        for match in _TOKEN.finditer(text):
            kind, found = match.lastgroup, match.group()
            line = text.count("\n", 0, match.start()) + 1 if kind == "open" else 0
            if kind == "open":
                raise UserError(
                    f"line {line} of {self.name} has a text whose quotes do not close, or not "
                    f"before a blank (within a text they are written twice); {SAVE_AGAIN}"
                )
            if kind == "text":
                yield '"' + found[1:-1].replace('""', '"')
            elif kind == "flag":
                yield found
            elif kind == "word" and _LIKE_A_NUMBER.match(found):
                yield _Number(float(found)) if _NUMBER.fullmatch(found) else found

    def number(self, what: str) -> float:
        """Take a finite number."""
        found = next(self._left, None)
        if isinstance(found, _Number) and math.isfinite(found.value):
            return found.value
        raise self._refused(found, what, "a number (with a decimal point)")

    def count(self, what: str) -> int:
        """Take a whole number, 0 or more."""
        found = next(self._left, None)
        if isinstance(found, _Number) and found.value >= 0 and found.value.is_integer():
            return int(found.value)
        raise self._refused(found, f"the number of {what}", "a whole number")

    def text(self, what: str) -> str:
        """Take a text."""
        found = next(self._left, None)
        if isinstance(found, str) and found.startswith('"'):
            return found[1:]
        raise self._refused(found, what, "a text in quotes")

    def flag(self, wanted: str) -> None:
        """Take a flag."""
        found = next(self._left, None)
        if found != wanted:
            raise self._refused(found, "the line about its tiers", wanted)

    def nothing_left(self) -> None:
        """Raise ``UserError`` if something follows."""
        found = next(self._left, None)
        if found is not None:
            raise UserError(
                f"{self.name} goes on with {_shown(found)} after as many tiers and intervals as it "
                f"promises; {SAVE_AGAIN}"
            )

    def _refused(self, found: _Number | str | None, what: str, wanted: str) -> UserError:
        return UserError(
            f"{self.name} has {_shown(found)} for {what}, where {wanted} is needed; {SAVE_AGAIN}"
        )


def _shown(found: _Number | str | None) -> str:
    if found is None:
        return "nothing"
    return f"{found.value:g}" if isinstance(found, _Number) else found.removeprefix('"')[:40]
