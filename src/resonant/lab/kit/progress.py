"""How far a preparation is: a bar in a terminal, a line a part elsewhere; both on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from .grid import plain_console

Part = Callable[[str, int], Callable[[int], None]]


@contextmanager
def progress(says: str) -> Iterator[Part]:
    """``with progress("speaking") as part: report = part("train", 100)``; ``report(n)``: n done."""
    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)

    def drawn(what: str, count: int) -> Callable[[int], None]:
        task = bar.add_task(f"{says}: {what}", total=count)
        return lambda done: bar.update(task, completed=done)

    def told(what: str, count: int) -> Callable[[int], None]:
        console.print(f"{says}: {what}, {count}", highlight=False)
        return lambda done: None

    if console.is_terminal:
        with bar:
            yield drawn
    else:
        yield told
