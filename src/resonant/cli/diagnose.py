"""`resonant diagnose RUN`: where a trained model looks, and what becomes of the tokens."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import WEIGHTS
from ..integrations.opening import is_foreign
from ..lab.kit.contents import read_held
from ..lab.kit.folder import DIAGNOSIS_PAGE, DONE, require
from ..lab.kit.plugins import import_plugins_of

MOST_TOKENS = 2000  # every weight is held


def main(arguments: list[str]) -> int:
    """Print numbers by layer and write RUN/diagnosis.html."""
    options = make_parser().parse_args(arguments)
    directory = Path(options.run)
    if directory.is_dir() and is_foreign(directory):
        return _foreign(directory, options, arguments)
    _check_finished(directory)
    import numpy as np
    import torch

    from ..diagnostics import has_phases, record_phases, summarize
    from ..lab.domains import open_reader
    from ..lab.report.phases import phase_sections

    import_plugins_of(directory, options.plugins)
    try:
        model, tokenizer = open_reader(directory)
        text = _text(directory) if options.text is None else options.text
        inputs = torch.tensor([_ids(tokenizer, text)])
        found = summarize(model, inputs)
        record = record_phases(model, inputs) if has_phases(model) else None
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{directory}: {error}") from error
    tokens = [tokenizer.decode(token[None].numpy()) for token in inputs[0]]
    found["tokens"] = np.array(tokens[: found["weights"].shape[-1]])
    phases = None if record is None else phase_sections(record, tokens)
    return _show(found, tokens, options, arguments, phases=phases)


def _foreign(directory: Path, options: argparse.Namespace, arguments: list[str]) -> int:
    """A model of transformers: its own attention, or the branch's."""
    import numpy as np
    import torch

    from ..diagnostics import summarize_record
    from ..integrations.opening import open_causal
    from ..integrations.sinks import record_transformer

    model, tokenizer = open_causal(directory)
    text = _text(directory) if options.text is None else options.text
    ids = tokenizer(text)["input_ids"]
    _check_count(len(ids))
    try:
        record = record_transformer(model, of=options.of, input_ids=torch.tensor([ids]))
        found = summarize_record(record)
    except ValueError as error:
        raise UserError(f"{directory}: {error}") from error
    tokens = [tokenizer.decode([token]) for token in ids]
    found["tokens"] = np.array(tokens[: found["weights"].shape[-1]])
    return _show(found, tokens, options, arguments)


def _show(
    found: dict[str, Any],
    tokens: list[str],
    options: argparse.Namespace,
    arguments: list[str],
    *,
    phases: dict[str, Any] | None = None,
) -> int:
    from ..lab.kit.grid import as_rich, table_console
    from ..lab.report.attention import depth_table
    from ..lab.report.page import write_diagnosis

    directory = Path(options.run)
    out = directory if options.out is None else Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    again = shlex.join(["resonant", "diagnose", *arguments])
    page = write_diagnosis(
        found, tokens, out, title=directory.resolve().name, command=again, phases=phases
    )
    console = table_console()
    for grid in [depth_table(found)] + ([] if phases is None else [phases["table"]]):
        console.print(as_rich(grid))
        console.print(grid.legend, highlight=False)
    console.print(f"pictures: {page}", highlight=False, soft_wrap=True)
    return 0


def _check_finished(run: Path) -> None:
    require(
        run,
        WEIGHTS,
        "give the folder of a finished run, such as runs/demo/kuramoto-seed0, or of a model of "
        "transformers",
    )


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids = tokenizer.encode(text).tolist()
    _check_count(len(ids))
    return ids


def _check_count(count: int) -> None:
    if not 2 <= count <= MOST_TOKENS:
        raise UserError(f"the text has {count} tokens; give 2 to {MOST_TOKENS}")


def _text(directory: Path) -> str:
    """The prompt of the run's own sample."""
    done = directory / DONE
    text = read_held(done).get("prompt") if done.is_file() else None
    if not text:
        raise UserError(f"{directory} has no sample to show; give --text")
    return text


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant diagnose",
        description="Where a trained language model looks, what becomes of its tokens with depth "
        "(collapse, rank, entropy, sinks), its gates and phases, on a text.",
    )
    parser.add_argument(
        "run",
        help="folder of a run, such as runs/demo/kuramoto-seed0, or of a model of transformers",
    )
    parser.add_argument("--text", help="what the model reads (the prompt of its sample)")
    parser.add_argument(
        "--of",
        default="pretrained",
        choices=("pretrained", "branch"),
        help="which attention of a model of transformers with a branch (pretrained)",
    )
    parser.add_argument(
        "--plugins", help="modules to import first, by comma (a run's too: they are code)"
    )
    parser.add_argument("--out", help=f"folder for {DIAGNOSIS_PAGE} (the run's)")
    return parser
