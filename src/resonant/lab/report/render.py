"""Templates of this folder as pages, and parts of pages, that need nothing else."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2


def _environment() -> jinja2.Environment:
    folder = resources.files("resonant.lab.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.loader = jinja2.FunctionLoader(
        lambda name: folder.joinpath(name).read_text("utf-8")
    )
    return environment


def render(template: str, **values: Any) -> str:
    """A template as a page."""
    style = resources.files("resonant.lab.report").joinpath("style.css").read_text("utf-8")
    return _environment().get_template(template).render(style=style, **values)


def fragment(macro: str, values: Any) -> str:
    """What the macro of this name makes of ``values``; nothing of nothing."""
    if not values:
        return ""
    module: Any = _environment().get_template("macros.html").module
    return str(getattr(module, macro)(values))
