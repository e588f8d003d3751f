"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ..errors import UserError, nearest
from ..files import write_atomically
from .abilities import ability_tables
from .adapters import adapter_tables
from .alignment import alignment_tables
from .alignment_figures import clock_curves, matrices, tempo_curves
from .attention import (
    Diagnosis,
    attention_maps,
    depth_curves,
    depth_table,
    gate_texts,
    order_curves,
    read_diagnosis,
)
from .budget import budget_curves, learned_curves
from .figures import differences, learning_curves, on_paper, rates
from .grid import LEFT
from .learned import learned_tables, morlet_figure
from .picture_figures import completed, drawn, kept_pictures, looks
from .pictures import picture_tables
from .positions import position_curves
from .results import Results, first_folder, missed_ceilings
from .sound import players
from .speech import speech_tables
from .speech_figures import spectrograms
from .table import contrasts, cost, quality, sweep, title, without_future


def render(template: str, **values: Any) -> str:
    """A template of this folder as a page that needs nothing else."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    folder = resources.files("resonant.report")
    style = folder.joinpath("style.css").read_text("utf-8")
    environment.loader = jinja2.FunctionLoader(
        lambda name: folder.joinpath(name).read_text("utf-8")
    )
    source = environment.get_template(template)
    return source.render(style=style, **values)


def draw(results: Results, directory: Path) -> dict[str, str]:
    """Every figure of the report by name, as SVG elements; empty ones where nothing is to show."""
    diagnoses, kept = diagnoses_of(results, directory), kept_pictures(results, directory)
    figures = {
        "differences": differences(results),
        "positions": position_curves(results),
        "morlet": morlet_figure(results),
        "tempi": tempo_curves(results),
        "matrices": matrices(results, directory),
        "clocks": clock_curves(results, directory),
        "spectrograms": spectrograms(results, directory),
        "looks": looks(kept),
        "completed": completed(kept),
        "drawn": drawn(kept),
        "rates": rates(results),
        "curves": learning_curves(results),
        "budget": budget_curves(results),
        "learned": learned_curves(results, directory),
        "depth": depth_curves(diagnoses),
        "order": order_curves(diagnoses),
    }
    return figures | {f"maps-{arm}": attention_maps(each) for arm, each in diagnoses.items()}


def diagnoses_of(results: Results, directory: Path) -> dict[str, Diagnosis]:
    """What the first seed of each arm kept of its model at work, by arm."""
    found = {a.name: read_diagnosis(first_folder(a, directory)) for a in results.arms}
    return {arm: each for arm, each in found.items() if each is not None}


def write_figures(
    results: Results, directory: Path, target: Path, *, only: str | None = None
) -> list[Path]:
    """Write the figures into ``target`` as SVG files, dark on white, for documents.

    They are those of the report, or the one called ``only``; returns their paths.

    Raises ``UserError`` for a figure that there is not.
    """
    figures = {name: figure for name, figure in draw(results, directory).items() if figure}
    if only is not None and only not in figures:
        raise UserError(f"no figure here is called {only!r}; {nearest(only, figures)}")
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        if only in (None, name):
            path = target / f"{name}.svg"
            write_atomically(path, on_paper(figure).encode(), "figure")
            written.append(path)
    return written


def write_report(results: Results, directory: Path) -> Path:
    """Write ``report.html`` into ``directory`` and return its path."""
    figures = draw(results, directory)
    diagnoses = diagnoses_of(results, directory)
    page = render(
        "page.html",
        title=title(results),
        results=results,
        left=LEFT,
        quality=quality(results),
        abilities=ability_tables(results),
        pictures=picture_tables(results),
        contrasts=contrasts(results),
        without_future=without_future(results),
        cost=cost(results),
        missed=missed_ceilings(results),
        sweep=sweep(results),
        learned=learned_tables(results),
        alignment=alignment_tables(results) | speech_tables(results) | adapter_tables(results),
        depths={arm: depth_table(each) for arm, each in diagnoses.items()},
        gates=gate_texts(diagnoses),
        figures=figures,
        players=players(results, directory),
        directory=str(directory),
    )
    path = directory / "report.html"
    write_atomically(path, page.encode(), "report")
    return path


def write_diagnosis(
    diagnosis: Diagnosis,
    tokens: list[str],
    directory: Path,
    *,
    title: str,
    command: str,
    phases: dict[str, Any] | None = None,
) -> Path:
    """Write ``diagnosis.html`` into ``directory`` and return its path.

    ``tokens`` are the texts of the row looked at; ``phases`` what ``phase_sections`` made.
    """
    known = {title: diagnosis}
    page = render(
        "diagnosis.html",
        title=title,
        text="".join(tokens),
        left=LEFT,
        depth=depth_curves(known),
        table=depth_table(diagnosis),
        maps=attention_maps(diagnosis),
        gates=gate_texts(known),
        phases=phases,
        command=command,
    )
    path = directory / "diagnosis.html"
    write_atomically(path, page.encode(), "diagnosis")
    return path
