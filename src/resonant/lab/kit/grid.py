"""Tables for the terminal and the page alike."""

from __future__ import annotations

import io
from dataclasses import dataclass
from html import escape
from typing import Any

from rich.console import Console
from rich.table import Table

from .statistics import Difference

LEFT = frozenset(
    {
        "arm",
        "by head",
        "contrast",
        "control",
        "metric",
        "name",
        "note",
        "phases",
        "row",
        "verdict",
    }
)
WIDTH = 140  # of tables outside a terminal
MOST_DIGITS = 9  # behind a point


@dataclass(frozen=True, repr=False)
class Grid:
    """A table: its columns, a row an arm, and how to read it. It prints as one."""

    columns: tuple[str, ...]
    rows: list[list[str]]
    legend: str

    @property
    def left(self) -> frozenset[str]:
        """The columns that hold words."""
        return LEFT & set(self.columns)

    def __str__(self) -> str:
        console = plain_console(width=WIDTH, file=io.StringIO(), record=True)
        console.print(as_rich(self))
        console.print(self.legend)
        return console.export_text().rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        lines = [self.columns, *self.rows]
        kinds = ["th", *["td"] * len(self.rows)]
        rows = [
            "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in line)
            for kind, line in zip(kinds, lines, strict=True)
        ]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table>{body}</table><p><small>{escape(self.legend)}</small></p>"


def alone(grid: Grid | None) -> dict[str, Grid]:
    """The tables of a section that is one table, under the section's heading."""
    return {} if grid is None else {"": grid}


def number_form(digits: int) -> str:
    """Format numbers with so many decimals; with a power of ten where those are many."""
    return f".{digits}f" if digits <= MOST_DIGITS else ".3e"


def difference_cells(
    control: str | None, difference: Difference | None, *, digits: int = 4
) -> tuple[str, str, str, str]:
    """Control, difference with its interval, verdict, and what could have been seen."""
    if control is None or difference is None:
        return "", "", "", ""
    form = number_form(digits)
    mean = f"{difference.mean:+{form}}"
    if difference.half_width is None or difference.detectable is None:
        return control, mean, difference.verdict, ""
    seen = mean.strip("+-0.e") != ""  # what is not printed is not judged
    return (
        control,
        f"{mean if seen else f'{0:{form}}'} ± {difference.half_width:{form}}",
        difference.verdict if seen else "no difference shown",
        f"{difference.detectable:{form}}",
    )


def as_markdown(grid: Grid, heading: str | None = None) -> str:
    """A grid as Markdown, to paste into a document."""
    sides = ["---" if column in LEFT else "---:" for column in grid.columns]
    rows = ["| " + " | ".join(row) + " |" for row in (grid.columns, sides, *grid.rows)]
    above = [] if heading is None else [f"**{heading}**", ""]
    return "\n".join([*above, *rows, "", grid.legend, ""])


def plain_console(**options: Any) -> Console:
    """Make a console that prints what it is given: names and paths may hold brackets."""
    return Console(markup=False, highlight=False, **options)


def table_console(**options: Any) -> Console:
    """Make a console; outside a terminal as wide as tables need."""
    console = plain_console(**options)
    return console if console.is_terminal else plain_console(width=WIDTH, **options)


def as_rich(grid: Grid, heading: str | None = None) -> Table:
    """A grid as a table for the terminal."""
    table = Table(title=heading, title_justify="left")
    for column in grid.columns:
        side = "left" if column in LEFT else "right"
        table.add_column(column, justify=side, no_wrap=True)
    for row in grid.rows:
        table.add_row(*row)
    return table
