"""`resonant explain NAME`: a mechanism, or a word of the tables, in a page."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

from ..errors import UserError, nearest
from .explanations import EXPLANATIONS, TERMS, Explanation

SOURCE = Path(__file__).parents[1]
WIDTH = 88


def main(arguments: list[str]) -> int:
    """Print what NAME is; without one, what there is to explain."""
    if "-h" in arguments or "--help" in arguments:
        print("usage: resonant explain [NAME ...]\n\nA mechanism, or a word of the tables.")
        return 0
    if not arguments:
        print("mechanisms (resonant explain NAME)")
        for name, each in EXPLANATIONS.items():
            print(f"  {name:10} {each.says}")
        print("\nwords of tables and reports")
        print("  " + ", ".join(TERMS))
        return 0
    for name in arguments:
        if name in TERMS:
            print(textwrap.fill(f"{name}: {TERMS[name]}", WIDTH))
        elif name in EXPLANATIONS:
            print(_page(name, EXPLANATIONS[name]))
        else:
            known = (*EXPLANATIONS, *TERMS)
            raise UserError(f"nothing to explain is called {name!r}; {nearest(name, known)}")
    return 0


def _page(name: str, about: Explanation) -> str:
    lines = [f"{name}: {about.says}", "", *(f"    {line}" for line in about.equation), ""]
    for what, file, function in about.code:
        place = f"src/resonant/{file}:{line_of(file, function)}"
        lines.append(f"  {what:20} {function:24} {place}")
    lines += ["", _labelled("in a line", about.one_line), _labelled("cost", about.cost)]
    lines += [_labelled("when", about.when)]
    lines += [_labelled("differs", each) for each in about.differs]
    lines += [_labelled("source", about.source), _labelled("more", about.page)]
    return "\n".join(lines)


def _labelled(label: str, text: str) -> str:
    start = f"  {label:10} "
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
    )


def line_of(file: str, name: str) -> int:
    """The line where ``name`` is defined in a file of the package."""
    tree = ast.parse((SOURCE / file).read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    return next(n.lineno for n in tree.body if isinstance(n, kinds) and n.name == name)
