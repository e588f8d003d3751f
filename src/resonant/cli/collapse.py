"""`resonant collapse`: particles moved by attention alone; pictures and a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError, check_seed

SHOWN = (0, 10, 30, 100, 400)
CURVE = sorted({round(400 ** (i / 40)) for i in range(41)} | {*SHOWN})


def main(arguments: list[str]) -> int:
    """Print the table; write collapse.svg and collapse-curves.svg."""
    options = make_parser().parse_args(arguments)
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out takes a folder, but {options.out} is a file")
    check_seed(options.seed)
    if options.particles < 2:
        raise UserError(f"--particles must be at least 2; it is {options.particles}")

    from ..diagnostics.collapse import MECHANISMS, collapse
    from ..files import write_atomically
    from ..lab.kit.grid import as_markdown, as_rich, table_console
    from ..lab.kit.svg import on_paper
    from ..lab.report.collapse import collapse_curves, collapse_strip, collapse_table

    world = {"particles": options.particles, "seed": options.seed}
    worlds = [collapse(name, depths=CURVE, **world) for name in MECHANISMS]
    shown = [each.at(SHOWN) for each in worlds]
    options.out.mkdir(parents=True, exist_ok=True)
    console = table_console(stderr=options.markdown)
    table = collapse_table(shown)
    if options.markdown:
        print(as_markdown(table))
    else:
        console.print(as_rich(table))
        console.print(table.legend, highlight=False)
    figures = {"collapse": collapse_strip(shown), "collapse-curves": collapse_curves(worlds)}
    for name, figure in figures.items():
        path = options.out / f"{name}.svg"
        write_atomically(path, on_paper(figure).encode(), "figure")
        console.print(f"figure: {path}", highlight=False, soft_wrap=True)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant collapse",
        description="Particles on a sphere moved by attention alone: softmax, softmax in Krause's "
        "window, softmax as sharp as Krause, Krause and Kuramoto; some ten seconds.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/collapse"), help="folder")
    parser.add_argument("--particles", type=int, default=256, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of where they start")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser
