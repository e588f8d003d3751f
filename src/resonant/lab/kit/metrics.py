"""metrics.csv and its like: rows by step, never two for one, none beyond the checkpoint."""

from __future__ import annotations

import csv
from pathlib import Path

from ...files import fault, write_atomically

COLUMNS = ("step", "train_loss", "valid_loss", "learning_rate", "seconds")


class Metrics:
    """The rows of one run. Numbers are written so that they read back exactly."""

    def __init__(self, path: Path, *, keep_until: int, columns: tuple[str, ...] = COLUMNS) -> None:
        """Open ``path``, dropping torn rows and rows after step ``keep_until``."""
        self.path, self.columns = path, columns
        kept = [row for row in read_metrics(path, columns) if row["step"] <= keep_until]
        lines = [",".join(columns), *(self._line(row) for row in kept)]
        content = "\n".join(lines) + "\n"
        write_atomically(path, content.encode(), "metrics-kept")

    def write(self, row: dict[str, float]) -> None:
        """Append one row."""
        line = self._line(row) + "\n"
        self._append(line[: len(line) // 2])
        fault("metrics-half")
        self._append(line[len(line) // 2 :])

    def _line(self, row: dict[str, float]) -> str:
        cells = (str(int(row[c])) if c == "step" else repr(float(row[c])) for c in self.columns)
        return ",".join(cells)

    def _append(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)


def read_metrics(path: Path, columns: tuple[str, ...] | None = COLUMNS) -> list[dict[str, float]]:
    """All whole rows of a metrics.csv; none if there is no such file.

    ``columns`` None: those that its first line names.
    """
    if not path.is_file():
        return []
    rows = []
    text = path.read_text()
    # A row without its line end was torn by a kill.
    whole = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    names = whole.fieldnames or () if columns is None else columns
    for raw in whole:
        try:
            rows.append({name: float(raw[name]) for name in names})
        except (TypeError, ValueError, KeyError):
            continue
    return rows
