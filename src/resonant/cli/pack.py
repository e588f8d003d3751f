"""`resonant pack RUNS FILE`: write a comparison into one file, to keep or to send."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path, PurePosixPath

from ..errors import UserError
from ..lab.kit.folder import REPORT


def main(arguments: list[str]) -> int:
    """Pack, and say what is in the archive and what is not."""
    parser = argparse.ArgumentParser(
        prog="resonant pack",
        description="Write a comparison into one file: configurations, metrics, final numbers and "
        "the arrays behind its pictures, of every run and of the sweep; no weights. `resonant "
        "report FILE` and `resonant compare --against FILE` read it; `unzip -p FILE runs.jsonl` "
        "shows it, a line a run.",
    )
    parser.add_argument("runs", type=Path, help="the --out of a comparison")
    parser.add_argument("file", type=Path, help="the archive to write; its name ends in .zip")
    parser.add_argument("--overwrite", action="store_true", help="replace an archive")
    options = parser.parse_args(arguments)
    from ..lab.kit.archive import pack
    from ..lab.own.folder import is_own

    if is_own(options.runs):
        raise UserError(
            f"{options.runs} holds a comparison of one's own function, whose runs keep what it "
            f"chose; send the whole folder, or its {REPORT}"
        )
    count, left = pack(options.runs, options.file, overwrite=options.overwrite)
    print(f"{options.file}: {count} runs, {options.file.stat().st_size / 1e3:,.0f} kB")
    if left:
        names = Counter(PurePosixPath(path).name for path in left)
        said = ", ".join(f"{n} x {name}" if n > 1 else name for name, n in sorted(names.items()))
        print(f"left out: {said}")
    return 0
