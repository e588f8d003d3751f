"""Progress of all runs at once: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from ..run.pool import Pool, RunState

PLAIN_LINE_EVERY_SECONDS = 20.0


def clock(seconds: float | None) -> str:
    """Seconds as m:ss or h:mm:ss; unknown as dashes."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Display:
    """Shows a pool; use as a context manager around ``pool.run(display.show)``."""

    def __init__(self, pool: Pool, console: Console) -> None:
        self.pool, self.console = pool, console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._told: dict[str, str] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self) -> None:
        """Bring the display up to date."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            return
        for state in self.pool.states:
            if state.status != self._told.get(state.directory.name, "waiting"):
                self._told[state.directory.name] = state.status
                self._say(state)
        if time.monotonic() - self._last_line >= PLAIN_LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            for state in self.pool.states:
                if state.status == "running":
                    self._say(state)

    def _say(self, state: RunState) -> None:
        loss = "" if state.loss is None else f", loss {state.loss:.3f}"
        where = f"step {_steps(state)}{loss}" if state.status == "running" else ""
        self.console.print(
            f"{self._summary()}  {state.directory.name}: {state.status} {where}".rstrip(),
            soft_wrap=True,
            highlight=False,
        )

    def _summary(self) -> str:
        finished = sum(s.status in ("done", "kept") for s in self.pool.states)
        elapsed = clock(time.monotonic() - self.pool.started)
        left = clock(self.pool.seconds_left())
        return f"[{elapsed}, {left} left, {finished}/{len(self.pool.states)} runs]"

    def _table(self) -> Table:
        table = Table(title=self._summary(), title_justify="left", box=None, pad_edge=False)
        for name in ("run", "progress", "step", "loss", ""):
            table.add_column(name)
        for state in self.pool.states:
            table.add_row(
                state.directory.name,
                _bar(state),
                _steps(state),
                "" if state.loss is None else f"{state.loss:.3f}",
                state.status,
            )
        return table


def _steps(state: RunState) -> str:
    """Say how far a run is; of one of unknown length, how many steps it has said."""
    return str(state.step) if state.steps is None else f"{state.step}/{state.steps}"


def _bar(state: RunState) -> ProgressBar:
    if state.steps is not None:
        return ProgressBar(total=state.steps, completed=state.step, width=24)
    if state.status == "running":
        return ProgressBar(total=None, pulse=True, width=24)
    return ProgressBar(total=1, completed=int(state.status in ("done", "kept")), width=24)
