"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import jinja2

from ..files import write_atomically
from .figures import differences, learning_curves, rates
from .results import Results, missed_ceilings
from .table import LEFT, cost, quality, sweep, title


def write_report(results: Results, directory: Path) -> Path:
    """Write ``report.html`` into ``directory`` and return its path."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("resonant.report").joinpath("page.html").read_text("utf-8")
    page = environment.from_string(source).render(
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
        directory=str(directory),
    )
    path = directory / "report.html"
    write_atomically(path, page.encode(), "report")
    return path
