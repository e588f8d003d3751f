"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ..files import write_atomically
from .alignment import alignment_tables
from .alignment_figures import clock_curves, matrices, tempo_curves
from .figures import differences, learning_curves, on_paper, rates
from .grid import LEFT
from .learned import learned_tables, morlet_figure
from .positions import position_curves
from .results import Results, missed_ceilings
from .table import contrasts, cost, quality, sweep, title, without_future


def render(template: str, **values: Any) -> str:
    """A template of this folder as a page that needs nothing else."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    folder = resources.files("resonant.report")
    style = folder.joinpath("style.css").read_text("utf-8")
    source = environment.from_string(folder.joinpath(template).read_text("utf-8"))
    return source.render(style=style, **values)


def draw(results: Results, directory: Path) -> dict[str, str]:
    """Every figure of the report by name, as SVG elements; empty ones where nothing is to show."""
    return {
        "differences": differences(results),
        "positions": position_curves(results),
        "morlet": morlet_figure(results),
        "tempi": tempo_curves(results),
        "matrices": matrices(results, directory),
        "clocks": clock_curves(results, directory),
        "rates": rates(results),
        "curves": learning_curves(results),
    }


def write_figures(results: Results, directory: Path, target: Path) -> list[Path]:
    """Write the figures into ``target`` as SVG files, dark on white, for documents.

    They are those of the report; returns their paths.
    """
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in draw(results, directory).items():
        if figure:
            path = target / f"{name}.svg"
            write_atomically(path, on_paper(figure).encode(), "figure")
            written.append(path)
    return written


def write_report(results: Results, directory: Path) -> Path:
    """Write ``report.html`` into ``directory`` and return its path."""
    figures = draw(results, directory)
    page = render(
        "page.html",
        title=title(results),
        results=results,
        left=LEFT,
        quality=quality(results),
        contrasts=contrasts(results),
        without_future=without_future(results),
        cost=cost(results),
        missed=missed_ceilings(results),
        sweep=sweep(results),
        learned=learned_tables(results),
        alignment=alignment_tables(results),
        figures=figures,
        directory=str(directory),
    )
    path = directory / "report.html"
    write_atomically(path, page.encode(), "report")
    return path
