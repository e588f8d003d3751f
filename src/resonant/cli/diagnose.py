"""`resonant diagnose RUN`: what the phases of a trained model do on a text."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from ..files import read_json

MOST_TOKENS = 2000  # every weight is held


def main(arguments: list[str]) -> int:
    """Print order parameters and write RUN/phases.html."""
    options = _parser().parse_args(arguments)
    directory = Path(options.run)
    if not (directory / "model.safetensors").is_file():
        raise UserError(
            f"{directory} holds no model.safetensors; give the folder of a finished run, such as "
            "runs/demo/kuramoto-seed0"
        )
    import torch
    from rich.console import Console

    from ..data.tokens import Tokenizer
    from ..diagnostics import record_phases
    from ..models.architectures import load_model
    from ..report.grid import as_rich
    from ..report.phases import phase_table, write_phase_page
    from .folder import import_plugins_of

    import_plugins_of(directory, options.plugins)
    tokenizer = Tokenizer.load(directory)
    try:
        model = load_model(directory)
        text = _text(directory) if options.text is None else options.text
        ids = tokenizer.encode(text).tolist()
        if not 2 <= len(ids) <= MOST_TOKENS:
            raise UserError(f"the text has {len(ids)} tokens; give 2 to {MOST_TOKENS}")
        record = record_phases(model, torch.tensor([ids]))
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{directory}: {error}") from error
    tokens = [tokenizer.decode(torch.tensor([each]).numpy()) for each in ids]
    out = directory if options.out is None else Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    page = write_phase_page(record, tokens, out, title=directory.name)
    grid, console = phase_table(record), Console()
    console.print(as_rich(grid))
    console.print(grid.legend, highlight=False)
    console.print(f"pictures: {page}", highlight=False, soft_wrap=True)
    return 0


def _text(directory: Path) -> str:
    """The prompt of the run's own sample."""
    done = directory / "done.json"
    text = read_json(done).get("prompt") if done.is_file() else None
    if not text:
        raise UserError(f"{directory} has no sample to show; give --text")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resonant diagnose",
        description="Order parameters, clusters and phases over layers of a model with Kuramoto "
        "coupling, on a text.",
    )
    parser.add_argument("run", help="folder of a run, such as runs/demo/kuramoto-seed0")
    parser.add_argument("--text", help="what the model reads (the prompt of its sample)")
    parser.add_argument("--plugins", help="modules to import first, by comma (the run's)")
    parser.add_argument("--out", help="folder for phases.html (the run's)")
    return parser
