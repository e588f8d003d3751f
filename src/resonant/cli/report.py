"""`resonant report DIR`: write the report of a comparison again from what its runs left."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError


def main(arguments: list[str]) -> int:
    """Print the table and write DIR/report.html."""
    parser = argparse.ArgumentParser(prog="resonant report", description=__doc__)
    parser.add_argument("directory", type=Path, help="the --out of a comparison")
    parser.add_argument("--figures", type=Path, help="also write the figures here, as SVG files")
    parser.add_argument("--only", help="with --figures: the one figure of this name")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    options = parser.parse_args(arguments)
    directory = options.directory
    from rich.console import Console

    from ..lab.kit.grid import as_markdown
    from ..lab.kit.results import gather
    from ..lab.report.page import write_figures, write_report
    from ..lab.report.sections import all_tables, print_tables

    if options.figures is not None and options.figures.exists() and not options.figures.is_dir():
        raise UserError(f"--figures takes a folder, but {options.figures} is a file")
    if options.only is not None and options.figures is None:
        raise UserError("--only chooses among the files of --figures FOLDER; give both")
    results = gather(directory)
    console = Console(stderr=options.markdown)  # a document gets tables alone
    if options.markdown:
        for heading, grid in all_tables(results):
            print(as_markdown(grid, heading))
    else:
        print_tables(results, console)
    console.print(f"report: {write_report(results, directory)}", highlight=False, soft_wrap=True)
    if options.figures is not None:
        for path in write_figures(results, directory, options.figures, only=options.only):
            console.print(f"figure: {path}", highlight=False, soft_wrap=True)
    return 0
