"""`resonant bench`: time and memory beside fused SDPA and the materialized forms."""

from __future__ import annotations

import argparse
import json
import platform
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError


def main(arguments: list[str]) -> int:
    """Print measured, limit and aim of each row; status 1 if a limit is missed."""
    options = make_parser().parse_args(arguments)
    _check(options)
    if options.decoding is not None:
        return _decoding(options)
    from ..benchmarks import rows as table
    from ..benchmarks.cases import THREADS, set_threads
    from ..lab.kit.grid import Grid, as_rich, table_console

    words = [word.lower() for word in options.rows]
    rows = [row for row in table.ROWS if all(word in row.says.lower() for word in words)]
    if not rows:
        raise UserError(f"no row has all of {', '.join(words)}; `resonant bench --list` names them")
    if options.list:
        print("\n".join(f"{_of(row):12} {row.says}" for row in rows))
        return 0
    set_threads(THREADS)
    console, measured = table_console(stderr=options.json == "-"), []
    for row in rows:
        ratio = table.measure(row)
        verdict = row.verdict(ratio)
        measured.append(
            {
                "what": row.says,
                "of": _of(row),
                "measured": ratio,
                "limit": row.limit,
                "aim": row.aim,
                "verdict": verdict,
            }
        )
        console.print(f"{row.says}: {ratio:.3f} ({verdict})", highlight=False, soft_wrap=True)
    cells = [[m["what"], m["of"], f"{m['measured']:.3f}", *_bounds(m)] for m in measured]
    columns = ("row", "of", "measured", "limit", "aim", "verdict")
    console.print(as_rich(Grid(columns, cells, "")))
    if options.json is not None:
        _write(options.json, {"threads": THREADS, "rows": measured})
    return 1 if any(each["verdict"] == "MISSED" for each in measured) else 0


def _check(options: argparse.Namespace) -> None:
    if options.json not in (None, "-") and not Path(options.json).absolute().parent.is_dir():
        raise UserError(f"--json {options.json} is in a folder that is not there; make it first")
    own = ("text", "markdown", "contexts", "keys", "first", "pieces")
    given = [f"--{name}" for name in own if getattr(options, name)]
    if given and options.decoding is None:
        raise UserError(f"{given[0]} is for --decoding MODEL; name the model")


def _decoding(options: argparse.Namespace) -> int:
    from .decoding import measure_decoding

    numbers = measure_decoding(options)
    if options.json is not None:
        _write(options.json, numbers)
    return 0


def _of(row: Any) -> str:
    return "peak memory" if row.memory else "CPU time"


def _bounds(row: dict[str, Any]) -> list[str]:
    return [f"{row['limit']:g}", f"{row['aim']:g}", row["verdict"]]


def _write(target: str, numbers: dict[str, Any]) -> None:
    """Write what was measured, and with what, as JSON: to a file, or printed for "-"."""
    import torch

    from ..files import write_atomically

    about = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    text = json.dumps(about | numbers, indent=2) + "\n"
    if target == "-":
        print(text, end="")
    else:
        write_atomically(Path(target), text.encode(), "bench")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant bench",
        description="Ratios of CPU time (forward and backward, float32, 2 threads, median of 7 "
        "interleaved rounds) and of peak memory (fresh processes), with their limits. Minutes.",
    )
    parser.add_argument("rows", nargs="*", help="words; rows that have all of them (every row)")
    parser.add_argument("--list", action="store_true", help="name the rows, measure nothing")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers here (-: print)")
    parser.add_argument(
        "--decoding",
        metavar="MODEL",
        help="in place of rows: what a token costs this language model of transformers (smollm2, "
        "or a folder), by context, with all keys and in windows",
    )
    numbers = partial(parser.add_argument, type=int, metavar="N")
    numbers("--contexts", nargs="+", help="(256 1024 4096)")
    numbers("--keys", help="keys of a window, with the first ones (256)")
    numbers("--first", help="first keys that stay visible (4)")
    parser.add_argument("--text", metavar="FILE", help="a text whose loss there is measured too")
    parser.add_argument("--markdown", action="store_true", help="print its tables as Markdown")
    numbers("--pieces", help="pieces of the text, each as long as its contexts (4)")
    return parser
