"""metrics.csv: rows keyed by step, never two for one step, none beyond the checkpoint."""

from __future__ import annotations

import csv
from pathlib import Path

from ..files import fault, write_atomically

COLUMNS = ("step", "train_loss", "valid_loss", "learning_rate", "seconds")


class Metrics:
    """The rows of one run. Numbers are written so that they read back exactly."""

    def __init__(self, path: Path, *, keep_until: int) -> None:
        """Open ``path``, dropping torn rows and rows after step ``keep_until``."""
        self.path = path
        kept = [row for row in read_metrics(path) if row["step"] <= keep_until]
        lines = [",".join(COLUMNS), *(_line(row) for row in kept)]
        content = "\n".join(lines) + "\n"
        write_atomically(path, content.encode(), "metrics-kept")

    def write(self, row: dict[str, float]) -> None:
        """Append one row."""
        line = _line(row) + "\n"
        self._append(line[: len(line) // 2])
        fault("metrics-half")
        self._append(line[len(line) // 2 :])

    def _append(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All whole rows of a metrics.csv; none if there is no such file."""
    if not path.is_file():
        return []
    rows = []
    text = path.read_text()
    # A row without its line end was torn by a kill.
    whole = text[: text.rfind("\n") + 1]
    for raw in csv.DictReader(whole.splitlines()):
        try:
            rows.append({name: float(raw[name]) for name in COLUMNS})
        except (TypeError, ValueError, KeyError):
            continue
    return rows


def _line(row: dict[str, float]) -> str:
    return ",".join(str(int(row[c])) if c == "step" else repr(float(row[c])) for c in COLUMNS)
