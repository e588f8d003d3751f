"""`resonant diagnose RUN`: where a trained model looks, and what becomes of the tokens."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..files import read_json

if TYPE_CHECKING:
    from ..data.tokens import Tokenizer

MOST_TOKENS = 2000  # every weight is held


def main(arguments: list[str]) -> int:
    """Print numbers by layer and write RUN/diagnosis.html."""
    options = _parser().parse_args(arguments)
    directory = _finished(options.run)
    import numpy as np
    import torch

    from ..data.tokens import Tokenizer
    from ..diagnostics import has_phases, record_phases, summarize
    from ..models.architectures import load_model
    from ..report.attention import depth_table
    from ..report.grid import as_rich, table_console
    from ..report.page import write_diagnosis
    from ..report.phases import phase_sections
    from .folder import import_plugins_of, refuse_no_text

    import_plugins_of(directory, options.plugins)
    tokenizer = Tokenizer.load(directory)
    try:
        model = load_model(directory)
        refuse_no_text(directory, tokenizer.vocabulary, model.config)
        text = _text(directory) if options.text is None else options.text
        inputs = torch.tensor([_ids(tokenizer, text)])
        found = summarize(model, inputs)
        record = record_phases(model, inputs) if has_phases(model) else None
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{directory}: {error}") from error
    tokens = [tokenizer.decode(token[None].numpy()) for token in inputs[0]]
    found["tokens"] = np.array(tokens[: found["weights"].shape[-1]])
    phases = None if record is None else phase_sections(record, tokens)
    out = directory if options.out is None else Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    again = shlex.join(["resonant", "diagnose", *arguments])
    page = write_diagnosis(found, tokens, out, title=directory.name, command=again, phases=phases)
    console = table_console()
    for grid in [depth_table(found)] + ([] if phases is None else [phases["table"]]):
        console.print(as_rich(grid))
        console.print(grid.legend, highlight=False)
    console.print(f"pictures: {page}", highlight=False, soft_wrap=True)
    return 0


def _finished(run: str) -> Path:
    if not (Path(run) / "model.safetensors").is_file():
        raise UserError(
            f"{run} holds no model.safetensors; give the folder of a finished run, such as "
            "runs/demo/kuramoto-seed0"
        )
    return Path(run)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = tokenizer.encode(text).tolist()
    if not 2 <= len(ids) <= MOST_TOKENS:
        raise UserError(f"the text has {len(ids)} tokens; give 2 to {MOST_TOKENS}")
    return ids


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
        description="Where a trained language model looks, what becomes of its tokens with depth "
        "(collapse, rank, entropy, sinks), its gates and phases, on a text.",
    )
    parser.add_argument("run", help="folder of a run, such as runs/demo/kuramoto-seed0")
    parser.add_argument("--text", help="what the model reads (the prompt of its sample)")
    parser.add_argument("--plugins", help="modules to import first, by comma (the run's)")
    parser.add_argument("--out", help="folder for diagnosis.html (the run's)")
    return parser
