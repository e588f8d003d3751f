"""`resonant diagnose MODEL`: where a model looks, and what becomes of the tokens."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..errors import UserError, in_words
from ..files import WEIGHTS
from ..integrations.opening import is_foreign
from ..integrations.smollm2 import folder_of
from ..lab.domains import open_own
from ..lab.kit.contents import read_held
from ..lab.kit.folder import DIAGNOSIS_PAGE, DONE, require
from ..lab.kit.plugins import import_plugins, import_plugins_of, split_names
from .loading import load_subject

MOST_TOKENS = 2000  # every weight is held
FOLDER = "diagnosis"  # for a model that has no folder


def main(arguments: list[str]) -> int:
    """Print numbers by layer and write diagnosis.html."""
    options = make_parser().parse_args(arguments)
    directory = folder_of(options.run)
    if not directory.is_dir() and ":" in options.run:
        _refuse_worth(options)
        return _named(options, arguments)
    import_plugins_of(directory if directory.is_dir() else None, options.plugins)
    if options.worth and directory.is_dir() and open_own(directory) is None:
        return _worth(directory, options, arguments)
    _refuse_worth(options)
    return _look(directory, options, arguments)


def _refuse_worth(options: argparse.Namespace) -> None:
    """Raise ``UserError`` where nothing has a validation loss of ours."""
    _refuse({"worth": options.worth or None}, options.run, "which has no validation loss of ours")
    _refuse({"data-dir": options.data_dir}, options.run, "which reads no data without --worth")


def _look(
    directory: Path, options: argparse.Namespace, arguments: list[str], worth: Any = None
) -> int:
    """Whatever is named, at work on a text or on its own inputs."""
    if directory.is_dir() and open_own(directory) is not None:
        return _named(options, arguments)
    _refuse({"length": options.length}, options.run, "which reads a text")
    if directory.is_dir() and is_foreign(directory):
        return _foreign(directory, options, arguments)
    _refuse({"of": options.of}, options.run, "which has one attention")
    _check_finished(directory)
    import numpy as np
    import torch

    from ..diagnostics import has_phases, record_phases, summarize
    from ..lab.domains import open_reader
    from ..lab.report.attention import worth_table
    from ..lab.report.phases import phase_sections

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
    own = dict(zip(found["layers"].tolist(), found["own"].mean(1).tolist(), strict=True))
    table = None if worth is None else worth_table(worth, own)
    return _show(found, tokens, options, arguments, phases=phases, worth=table)


def _worth(directory: Path, options: argparse.Namespace, arguments: list[str]) -> int:
    """What each layer's attention is worth, beside the rest where the model reads a text."""
    from ..diagnostics import attention_worth
    from ..lab.domains import build_task, domain_of, read_run
    from ..lab.kit.contents import described_run
    from ..lab.report.attention import worth_table
    from ..models.architectures import load_model

    _check_finished(directory)
    values = described_run(directory)
    if not values:
        raise UserError(f"{directory} has no configuration: --worth needs the data of a run")
    config = read_run(values)
    task = build_task(config, None if options.data_dir is None else Path(options.data_dir))
    try:
        task.model.load_state_dict(load_model(directory).state_dict())
        worth = attention_worth(task.model, lambda: task.evaluate("valid"))
    except (ValueError, FileNotFoundError) as error:
        raise UserError(f"{directory}: {error}") from error
    if domain_of(config).reader is not None:
        return _look(directory, options, arguments, worth)
    _print(worth_table(worth))
    return 0


def _named(options: argparse.Namespace, arguments: list[str]) -> int:
    """A model by the name of its module, or of a run of one's own, on inputs that come with it."""
    import numpy as np
    import torch

    from ..checks import guess_subject
    from ..diagnostics import record_attention, summarize, summarize_record

    if not Path(options.run).is_dir():
        import_plugins(split_names(options.plugins))
    torch.manual_seed(0)
    model, inputs = load_subject(options.run, several=True)
    unused = {"text": options.text, "of": options.of}
    unused |= {} if inputs is None else {"length": options.length}
    _refuse(unused, options.run, "which brings its own inputs")
    try:
        if inputs is None:
            inputs = guess_subject(model, length=options.length, seed=0).inputs
        if isinstance(inputs, torch.Tensor):
            found = summarize(model, inputs)
        elif isinstance(inputs, dict):
            found = summarize_record(record_attention(model, **inputs))
        else:
            found = summarize_record(record_attention(model, *inputs))
    except Exception as error:  # a stranger's model may raise anything
        said = str(error) if isinstance(error, ValueError) else f"it raises {in_words(error)}"
        raise UserError(
            f"{options.run}: {said}; a function that returns (model, inputs) says what it reads"
        ) from error
    texts = _labels(inputs, found["weights"].shape[-1])
    found["tokens"] = np.array(texts)
    return _show(found, texts, options, arguments)


def _labels(inputs: Any, count: int) -> list[str]:
    """Token ids of the first row where inputs are ids, one a token; else places."""
    ids = getattr(inputs, "ndim", 0) == 2 and not inputs.is_floating_point()
    row = inputs[0].tolist() if ids else []
    return [f" {each}" for each in (row[:count] if len(row) >= count else range(count))]


def _refuse(options: dict[str, Any], run: str, why: str) -> None:
    """Raise ``UserError`` for an option that was given and has no effect here."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name} is not for {run}, {why}; leave it out")


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
        of, read = options.of or "pretrained", torch.tensor([ids])
        record = record_transformer(model, of=of, input_ids=read)
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
    worth: Any = None,
) -> int:
    from ..lab.report.attention import depth_table
    from ..lab.report.page import write_diagnosis

    directory = Path(options.run)
    here = directory if directory.is_dir() else Path(FOLDER)
    out = here if options.out is None else Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    again = shlex.join(["resonant", "diagnose", *arguments])
    page = write_diagnosis(
        found, tokens, out, title=_title(options.run), command=again, phases=phases, worth=worth
    )
    _print(depth_table(found), worth, None if phases is None else phases["table"])
    print(f"pictures: {page}")
    return 0


def _print(*grids: Any) -> None:
    """Print tables, those that there are."""
    from ..lab.kit.grid import as_rich, table_console

    console = table_console()
    for grid in filter(None, grids):
        console.print(as_rich(grid))
        console.print(grid.legend, highlight=False)


def _title(name: str) -> str:
    return Path(name).resolve().name if Path(name).is_dir() else name


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
        description="Where a model looks, what becomes of its tokens with depth "
        "(collapse, rank, entropy, sinks), its gates and phases, on a text.",
    )
    parser.add_argument(
        "run",
        metavar="MODEL",
        help="folder of a run, such as runs/demo/kuramoto-seed0, or of a model of transformers; or "
        "package.module:name or file.py:name, a torch module or a function that makes one, or "
        "(model, inputs): any with attention of torch or of ours",
    )
    parser.add_argument("--text", help="what the model reads (the prompt of its sample)")
    parser.add_argument(
        "--length", type=int, help="tokens of inputs made up for a module (131, or fewer)"
    )
    parser.add_argument(
        "--of",
        choices=("pretrained", "branch"),
        help="which attention of a model of transformers with a branch (pretrained)",
    )
    parser.add_argument(
        "--worth",
        action="store_true",
        help="what each layer's attention, and each head, is worth: the validation loss of a run "
        "without it",
    )
    parser.add_argument("--data-dir", help="folder to take the run's data from, for --worth")
    parser.add_argument(
        "--plugins", help="modules to import first, by comma (a run's too: they are code)"
    )
    parser.add_argument("--out", help=f"folder for {DIAGNOSIS_PAGE} (the run's, or {FOLDER})")
    return parser
