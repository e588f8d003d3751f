"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ..files import write_atomically
from .alignment import alignment_tables
from .alignment_figures import clock_curves, matrices, tempo_curves
from .figures import differences, learning_curves, rates
from .grid import LEFT
from .results import Results, missed_ceilings
from .table import cost, quality, sweep, title


def render(template: str, **values: Any) -> str:
    """A template of this folder as a page that needs nothing else."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    folder = resources.files("resonant.report")
    style = folder.joinpath("style.css").read_text("utf-8")
    source = environment.from_string(folder.joinpath(template).read_text("utf-8"))
    return source.render(style=style, **values)


def write_report(results: Results, directory: Path) -> Path:
    """Write ``report.html`` into ``directory`` and return its path."""
    page = render(
        "page.html",
        title=title(results),
        results=results,
        left=LEFT,
        quality=quality(results),
        cost=cost(results),
        missed=missed_ceilings(results),
        sweep=sweep(results),
        rates=rates(results),
        curves=learning_curves(results),
        differences=differences(results),
        alignment=alignment_tables(results),
        tempi=tempo_curves(results),
        matrices=matrices(results, directory),
        clocks=clock_curves(results, directory),
        directory=str(directory),
    )
    path = directory / "report.html"
    write_atomically(path, page.encode(), "report")
    return path
