"""metrics.csv and its like: rows by step, never two for one, none beyond the checkpoint."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable
from pathlib import Path

from ...files import damaged, fault, read_text, write_atomically

COLUMNS = ("step", "train_loss", "valid_loss", "learning_rate", "seconds")
Row = dict[str, float]


class Metrics:
    """The rows of one run. Numbers are written so that they read back exactly."""

    def __init__(
        self, path: Path, rows: Iterable[Row] = (), *, columns: tuple[str, ...] = COLUMNS
    ) -> None:
        """Begin ``path`` anew with ``rows``, those that a checkpoint vouches for."""
        self.path, self.columns, self.rows = path, columns, list(rows)
        lines = [",".join(columns), *(self._line(row) for row in self.rows)]
        content = "\n".join(lines) + "\n"
        write_atomically(path, content.encode(), "metrics-kept")

    def write(self, row: Row) -> None:
        """Append one row, which is on the disk before anything vouches for it."""
        line = self._line(row) + "\n"
        with self.path.open("a") as file:
            file.write(line[: len(line) // 2])
            file.flush()
            fault("metrics-half")
            file.write(line[len(line) // 2 :])
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)

    def _line(self, row: Row) -> str:
        cells = (str(int(row[c])) if c == "step" else repr(float(row[c])) for c in self.columns)
        return ",".join(cells)


def read_metrics(path: Path, columns: tuple[str, ...] | None = COLUMNS) -> list[Row]:
    """Read all whole rows of a metrics.csv; none if there is no such file.

    ``columns`` None: those that its first line names. A last row without its line end was torn by a
    kill, and is left out.

    Raises ``UserError`` for a file with other columns, or rows that are not of numbers.
    """
    if not path.is_file():
        return []
    text = read_text(path)
    lines = text[: text.rfind("\n") + 1].splitlines()
    try:
        read = list(csv.reader(lines, strict=True))
    except csv.Error as error:
        raise damaged(path, str(error)) from error
    if not read or "step" not in read[0] or len(set(read[0])) < len(read[0]):
        raise damaged(path, "its first line names no columns")
    missing = [name for name in columns or () if name not in read[0]]
    if missing:
        raise damaged(path, f"it has no column {missing[0]}")
    return [_row(path, number, read[0], cells) for number, cells in enumerate(read[1:], start=2)]


def _row(path: Path, number: int, names: list[str], cells: list[str]) -> Row:
    try:
        row = {name: float(cell) for name, cell in zip(names, cells, strict=True)}
    except ValueError as error:
        raise damaged(path, f"line {number} is no row of {len(names)} numbers") from error
    if not math.isfinite(row["step"]):
        raise damaged(path, f"line {number} has the step {row['step']}")
    return row


def check_whole(path: Path, rows: list[Row], *, last: int, of: list[float]) -> None:
    """Raise ``UserError`` unless ``rows`` end at the step ``last`` and have the steps ``of``.

    A run of no step has no row.
    """
    steps = [row["step"] for row in rows]
    lost = [step for step in (*of, float(last)) if step not in steps and last > 0]
    if lost:
        raise damaged(path, f"the row of step {lost[0]:.0f} is lost")
