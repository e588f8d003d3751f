"""Formulas of the mathematics page as MathML, which browsers draw without a script."""

import re
from typing import Any

from latex2mathml.converter import convert

PAGE = "mathematics.md"


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Replace ``$$...$$`` and ``$...$`` on the page; GitHub reads them as they are."""
    if page.file.src_uri != PAGE:
        return markdown
    blocks = re.sub(r"\$\$(.+?)\$\$", _block, markdown, flags=re.DOTALL)
    return re.sub(r"\$([^$\n]+)\$", lambda m: f"<span>{convert(m[1])}</span>", blocks)


def _block(found: re.Match[str]) -> str:
    """A formula on lines of its own; Markdown leaves what is in a ``div`` alone."""
    return f"<div style='margin: 1em 0'>{convert(found[1].strip(), display='block')}</div>"
