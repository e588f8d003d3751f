"""`resonant report RUNS`: write the report of a comparison again from what its runs left."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError


def main(arguments: list[str]) -> int:
    """Print the tables and write the page."""
    options = make_parser().parse_args(arguments)
    from ..lab.kit.archive import beside, keep_new, opened, refuse_other
    from ..lab.kit.grid import as_markdown, plain_console
    from ..lab.kit.plugins import import_plugins, split_names
    from ..lab.kit.results import gather
    from ..lab.own.folder import is_own
    from ..lab.report.page import write_figures, write_report
    from ..lab.report.sections import all_tables, print_tables

    if options.figures is not None and options.figures.exists() and not options.figures.is_dir():
        raise UserError(f"--figures takes a folder, but {options.figures} is a file")
    if options.only is not None and options.figures is None:
        raise UserError("--only chooses among the files of --figures FOLDER; give both")
    if is_own(options.runs):
        return _own(options)
    import_plugins(split_names(options.plugins), never_from=options.runs)
    console = plain_console(stderr=options.markdown)  # a document gets tables alone
    with opened(options.runs) as directory:
        before = set(directory.rglob("*"))
        results = gather(directory)
        refuse_other(directory, options.runs)
        if options.markdown:
            for heading, grid in all_tables(results):
                print(as_markdown(grid, heading))
        else:
            print_tables(results, console)
        page = write_report(results, directory, options.runs)
        keep_new(directory, options.runs, before)
        console.print(
            f"report: {beside(options.runs) / page.name}", highlight=False, soft_wrap=True
        )
        if options.figures is not None:
            for path in write_figures(results, directory, options.figures, only=options.only):
                console.print(f"figure: {path}", highlight=False, soft_wrap=True)
    return 0


def _own(options: argparse.Namespace) -> int:
    """The tables and the page of a comparison of one's own function."""
    from ..lab.kit.grid import as_markdown, plain_console
    from ..lab.own.page import write_figures
    from ..lab.own.reading import read_compared

    found = read_compared(options.runs)
    console = plain_console(stderr=options.markdown)
    tables = {"": found.table, **found.extra}
    for heading, grid in tables.items():
        print(as_markdown(grid, heading or None) if options.markdown else grid)
    console.print(f"report: {found.report()}", highlight=False, soft_wrap=True)
    if options.figures is not None:
        for path in write_figures(found, options.figures, only=options.only):
            console.print(f"figure: {path}", highlight=False, soft_wrap=True)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command's options."""
    parser = argparse.ArgumentParser(prog="resonant report", description=__doc__)
    parser.add_argument(
        "runs",
        type=Path,
        help="the --out of a comparison, or its archive; the page goes into that folder, or into "
        "one of the archive's name",
    )
    parser.add_argument("--figures", type=Path, help="also write the figures here, as SVG files")
    parser.add_argument("--only", help="with --figures: the one figure of this name")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--plugins", help="modules to import first, by comma: your domains")
    return parser
