"""The report: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError, nearest
from ...files import write_atomically
from ..kit.domain import Figure
from ..kit.folder import DIAGNOSIS_PAGE, REPORT
from ..kit.grid import Grid
from ..kit.results import Results, missed_ceilings
from ..kit.svg import on_paper
from .attention import Diagnosis, attention_maps, depth_curves, depth_table, gate_texts
from .render import render
from .sections import naming, sections_of
from .table import title


@dataclass(frozen=True)
class Part:
    """A section with what it shows of one comparison."""

    heading: str
    tables: Mapping[str, Grid]
    figures: Sequence[Figure]
    html: str


def parts_of(results: Results, directory: Path) -> list[Part]:
    """Gather the sections that have something to show, figures drawn."""
    parts = []
    for section in sections_of(results):
        with naming(section, results):
            figures = [each for each in section.figures(results, directory) if each.svg]
            html = section.html(results, directory).strip()
            part = Part(section.heading, section.tables(results), figures, html)
        if part.tables or part.figures or part.html:
            parts.append(part)
    return parts


def figures_of(results: Results, directory: Path) -> dict[str, str]:
    """Draw every figure that there is something for: SVG elements by name.

    Raises ``UserError`` for two figures of one name.
    """
    figures: list[Figure] = []
    for section in sections_of(results):
        with naming(section, results):
            figures += section.figures(results, directory)
    found: dict[str, str] = {}
    for each in figures:
        if each.svg and each.name in found:
            raise UserError(f"two figures are called {each.name!r}; a section must rename its own")
        if each.svg:
            found[each.name] = each.svg
    return found


def write_figures(
    results: Results, directory: Path, target: Path, *, only: str | None = None
) -> list[Path]:
    """Write the figures into ``target`` as SVG files, dark on white, for documents.

    They are those of the report, or the one called ``only``; returns their paths.

    Raises ``UserError`` for a figure that there is not.
    """
    return write_svgs(figures_of(results, directory), target, only=only)


def write_svgs(figures: Mapping[str, str], target: Path, *, only: str | None = None) -> list[Path]:
    """Write SVG elements by name into files, dark on white; returns their paths.

    Raises ``UserError`` for a figure that there is not.
    """
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


def write_report(results: Results, directory: Path, given: Path | None = None) -> Path:
    """Write the page into ``directory`` and return its path.

    ``given`` is what the page's commands name instead: the archive that the folder is of.
    """
    page = render(
        "page.html",
        title=title(results),
        results=results,
        missed=missed_ceilings(results),
        parts=parts_of(results, directory),
        given=str(given or directory),
    )
    path = directory / REPORT
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
    worth: Grid | None = None,
) -> Path:
    """Write the page into ``directory`` and return its path.

    ``tokens`` are the texts of the row looked at; ``phases`` what ``phase_sections`` made;
    ``worth`` the table of ``worth_table``.
    """
    known = {title: diagnosis}
    page = render(
        "at_work.html",
        title=title,
        text="".join(tokens),
        depth=depth_curves(known),
        table=depth_table(diagnosis),
        maps=attention_maps(diagnosis),
        gates=gate_texts(known),
        phases=phases,
        worth=worth,
        command=command,
    )
    path = directory / DIAGNOSIS_PAGE
    write_atomically(path, page.encode(), "diagnosis")
    return path
