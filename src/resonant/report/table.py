"""The comparison as a table: the same rows for the terminal and the page."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from ..training.statistics import Difference
from .results import ArmResult, Results

COLUMNS = (
    "arm",
    "test loss",
    "valid loss",
    "control",
    "difference (95 %)",
    "verdict",
    "smallest detectable",
    "parameters (attention)",
    "tokens",
    "kFLOPs/token",
    "tokens/s",
    "peak MB",
)
LEFT = frozenset({"arm", "control", "verdict"})
LEGEND = (
    "Losses in nats per token. Differences are arm minus control, paired by seed, on the test "
    "split: negative is better; with their 95 % interval, and the smallest true difference that "
    "these seeds would have shown in 80 % of repetitions. FLOPs are counted for forward and "
    "backward, as if the fused kernel skipped nothing. Tokens per second and peak memory of a "
    "training step on one thread, measured apart from the training, arms taking turns."
)


def rows(results: Results) -> list[list[str]]:
    """Cells of the table, a row an arm."""
    return [_row(arm) for arm in results.arms]


def _row(arm: ArmResult) -> list[str]:
    first, cost = arm.runs[0], arm.cost
    return [
        arm.name,
        f"{arm.mean('test_loss'):.4f}",
        f"{arm.mean('valid_loss'):.4f}",
        *_difference(arm.control, arm.difference),
        f"{first['parameters']:,} ({first['attention_parameters']:,})",
        f"{first['tokens'] / 1e6:.2f}M",
        "" if cost is None else f"{cost['flops_per_token'] / 1e3:,.0f}",
        "" if cost is None else f"{cost['tokens_per_second']:,.0f}",
        "" if cost is None else f"{cost['peak_bytes'] / 1e6:.0f}",
    ]


def _difference(control: str | None, difference: Difference | None) -> tuple[str, str, str, str]:
    if control is None or difference is None:
        return "", "", "", ""
    if difference.half_width is None or difference.detectable is None:
        return control, f"{difference.mean:+.4f}", difference.verdict, ""
    interval = f"{difference.mean:+.4f} ± {difference.half_width:.4f}"
    return control, interval, difference.verdict, f"{difference.detectable:.4f}"


def title(results: Results) -> str:
    """What the table is about."""
    seeds = f"{results.seeds} seed{'s' if results.seeds > 1 else ''}"
    return f"{results.experiment}: {results.data}; {seeds} per arm"


def print_table(results: Results, console: Console) -> None:
    """Print the table; outside a terminal it is as wide as it needs to be."""
    table = Table(
        title=title(results), title_justify="left", caption=LEGEND, caption_justify="left"
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right")
    for row in rows(results):
        table.add_row(*row)
    if not console.is_terminal:
        console = Console(file=console.file, width=180)
    console.print(table)
