"""How far a preparation is: a bar in a terminal, a line a part elsewhere; both on stderr."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """``with Progress("speaking") as progress: report = progress.part("train", 100)``."""

    def __init__(self, says: str) -> None:
        self.says, self._console = says, Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bar = Bar(*columns, TimeRemainingColumn(), console=self._console, transient=True)

    def part(self, what: str, count: int) -> Callable[[int], None]:
        """Begin a part of ``count`` steps; call what is returned with the number done."""
        if not self._console.is_terminal:
            self._console.print(f"{self.says}: {what}, {count}", highlight=False)
            return lambda done: None
        task = self._bar.add_task(f"{self.says}: {what}", total=count)
        return lambda done: self._bar.update(task, completed=done)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()
