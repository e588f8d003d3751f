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
    for given in arguments:
        name = given.strip().lower()
        if name in TERMS:
            print(_filled(f"{name}: {TERMS[name]}"))
        elif name in EXPLANATIONS:
            print(_page(name, EXPLANATIONS[name]))
        else:
            _explain_arm(name, given)
    return 0


def _explain_arm(name: str, given: str) -> None:
    """Print what an arm is in each experiment that has it, and the page of its mechanism."""
    from ..lab.domains import DOMAINS, EXPERIMENTS
    from ..lab.kit.config import plain
    from ..lab.kit.experiment import MECHANISM

    found = [(e, arm) for e in EXPERIMENTS.values() for arm in e.arms if arm.name == name]
    if not found:
        others = {*EXPERIMENTS, *(domain.name for domain in DOMAINS)}
        if name in others:
            raise UserError(f"{name!r} is no mechanism; see `resonant list {name}`")
        arms = {arm.name for each in EXPERIMENTS.values() for arm in each.arms}
        known = {*EXPLANATIONS, *TERMS, *arms}
        raise UserError(f"nothing to explain is called {given!r}; {nearest(name, known)}")
    for experiment, arm in found:
        against = f", against {arm.control}" if arm.control else ""
        said = f"{name} is an arm of {experiment.name}: {arm.says}{against}."
        print(_filled(said))
    mechanisms = {plain(e.config(e.base, arm, 0, {})).get(MECHANISM) for e, arm in found}
    for mechanism, about in EXPLANATIONS.items():
        if mechanism in mechanisms:
            print(f"\n{_page(mechanism, about)}")


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)


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
