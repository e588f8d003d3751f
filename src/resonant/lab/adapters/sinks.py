"""`resonant sinks MODEL`: what a language model keeps its first token for, and loses without it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...files import damaged, strict_json, write_atomically
from ..kit.progress import progress
from .config import BESIDE

if TYPE_CHECKING:
    from torch import Tensor

JSON = "sinks.json"
WINDOWS = [64, 256]
Source = tuple[Any, Any]  # the model, its tokenizer
BEGINNINGS = ("as it is", "with a token to begin with")


def main(arguments: list[str]) -> int:
    """Print the tables, write the numbers and a page of pictures."""
    options = make_parser().parse_args(arguments)
    _check(options)
    from ...integrations.opening import open_causal
    from ...integrations.smollm2 import folder_of
    from ..kit.grid import as_markdown, as_rich, table_console
    from .sink_tables import sink_tables, write_pictures

    data_dir = None if options.data_dir is None else Path(options.data_dir)
    found: dict[str, Any] = {
        "models": options.models,
        "tokens": options.tokens,
        "rows": options.rows,
        "length": options.length,
        "texts": [],
        "windows": [],
    }
    for name in options.models:
        source = open_causal(folder_of(name, data_dir))
        found["texts"] += _weights(name, source, options, data_dir)
        found["windows"] += _windows(name, source, options, data_dir)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / JSON, (json.dumps(found, indent=1) + "\n").encode(), "sinks")
    console = table_console()
    for heading, grid in sink_tables(found).items():
        if options.markdown:
            print(as_markdown(grid, heading))
        else:
            console.print(as_rich(grid, heading))
            console.print(grid.legend)
    if not options.markdown:
        print("pictures: " + ", ".join(str(path) for path in write_pictures(found, out)))
    return 0


def read_sinks(path: Path) -> dict[str, Any]:
    """Read what ``resonant sinks`` wrote.

    Raises ``UserError`` for another file.
    """
    try:
        found = strict_json(path.read_text())
        return {name: found[name] for name in ("models", "texts", "windows")} | found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error)) from error


def _weights(
    name: str, source: Source, options: argparse.Namespace, data_dir: Path | None
) -> list[dict[str, Any]]:
    """By text and beginning: sinks by layer and head, and by query."""
    from ...integrations.sinks import measure_sinks

    model, tokenizer = source
    first = tokenizer.bos_token_id
    beginnings = BEGINNINGS if first is not None else BEGINNINGS[:1]
    found, total = [], len(options.text) * len(beginnings)
    with progress(f"attention of {name}") as part:
        report = part("texts", total)
        for text in options.text:
            rows = _pieces(text, tokenizer, (options.rows, options.tokens), data_dir)
            for beginning in beginnings:
                ids = rows if beginning == BEGINNINGS[0] else _begun(rows, first)
                try:
                    sinks = measure_sinks(model, ids)
                except ValueError as error:
                    raise UserError(f"{name}: {error}") from error
                except IndexError as error:
                    raise UserError(beyond(name, model, "--tokens or --length")) from error
                numbers = {n: _rounded(x) for n, x in dataclasses.asdict(sinks).items()}
                numbers["by_query"] = _rounded(sinks.by_query.mean(0))
                what = {"model": name, "text": text, "begins": beginning}
                found.append(what | {"share": sinks.share} | numbers)
                report(len(found))
    return found


def _windows(
    name: str, source: Source, options: argparse.Namespace, data_dir: Path | None
) -> list[dict[str, Any]]:
    """Measure the loss of the first text as the model is, and in windows."""
    model, tokenizer = source
    ids = _pieces(options.text[0], tokenizer, (1, options.length), data_dir)
    whole = {"model": name, "window": None, "first": 0, "loss": _loss(model, ids)}
    found: list[dict[str, Any]] = [whole]
    cases = [(window, first) for window in options.windows for first in options.first]
    with progress(f"windows of {name}") as part:
        report = part("windows", len(cases))
        for window, first in cases:
            loss = _within(model, ids, window, first)
            found.append({"model": name, "window": window, "first": first, "loss": loss})
            report(len(found) - 1)
    return found


def _within(model: Any, ids: Tensor, window: int, first: int) -> float:
    from ...functional import Causal
    from ...integrations import drop_attention, use_attention

    neighborhood = Causal(window, first=first)
    try:
        use_attention(model, "softmax", neighborhood=neighborhood, check=False)
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        return _loss(model, ids)
    finally:
        drop_attention(model)


def _loss(model: Any, ids: Tensor) -> float:
    """Compute the mean loss in nats per token, from the second on."""
    import torch

    try:
        with torch.no_grad():
            return round(model(input_ids=ids, labels=ids, use_cache=False).loss.item(), 5)
    except IndexError as error:
        raise UserError(beyond(type(model).__name__, model, "--length")) from error


def _pieces(text: str, tokenizer: Any, sizes: tuple[int, int], data_dir: Path | None) -> Tensor:
    """Token ids (piece, token) of a text, as many as ``sizes`` says."""
    import torch

    from .texts import text_of, windows

    count, length = sizes
    pieces = windows(text_of(text, tokenizer, data_dir), tokenizer, count, length)
    if len(pieces) < count:
        raise UserError(
            f"the text {text} has {len(pieces)} pieces of {length} tokens, not {count}; ask for "
            "fewer, by --rows, --tokens or --length"
        )
    return torch.tensor(pieces)


def _begun(rows: Tensor, first: int | None) -> Tensor:
    """Put a token that begins them before the rows, as long as before."""
    import torch

    assert first is not None
    return torch.cat([torch.full_like(rows[:, :1], first), rows[:, :-1]], dim=1)


def _rounded(x: Tensor) -> Any:
    """Nested lists of five digits behind the point."""

    def each(value: Any) -> Any:
        return [each(v) for v in value] if isinstance(value, list) else round(value, 5)

    return each(x.tolist())


def _check(options: argparse.Namespace) -> None:
    if options.windows is None:
        options.windows = WINDOWS if len(options.models) == 1 else []
    for name, least in (("tokens", 2), ("rows", 1), ("length", 2)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} must be at least {least}; it is {getattr(options, name)}")
    for name, least in (("windows", 1), ("first", 0)):
        if any(each < least for each in getattr(options, name)):
            raise UserError(f"--{name} are numbers from {least} on")
    if len({Path(each).resolve() for each in options.models}) < len(options.models):
        raise UserError(f"a model is named twice: {', '.join(options.models)}; name each once")
    if len(options.models) > 1 and options.windows:
        raise UserError("windows are those of one model; beside several, leave --windows out")
    if not options.text:
        raise UserError("--text names no text; give code, wikitext-2, chat or a file of yours")
    for text in options.text:
        if text not in BESIDE and not Path(text).is_file():
            known = ", ".join(BESIDE)
            raise UserError(f"--text is {known}, or a file of yours; there is no file {text}")


def beyond(name: str, model: Any, options: str) -> str:
    """Say that a model lacks a position or a token, and which ``options`` ask for fewer."""
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", "unknown")
    return (
        f"{name} has {positions} positions and {config.vocab_size:,} tokens, and was given one "
        f"beyond; ask for shorter texts by {options}, or check that the tokenizer is the model's"
    )


def _numbers(words: str) -> list[int]:
    try:
        return [int(word) for word in words.split(",") if word.strip()]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"numbers by comma, not {words!r}") from error


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant sinks",
        description="How much of their weight the heads of a language model of transformers give "
        "the first token, and what the model loses in windows, with the first tokens kept or not.",
    )
    parser.add_argument(
        "models",
        metavar="model",
        nargs="+",
        help="smollm2, a folder of transformers or of a run, or a name that transformers knows; "
        "several are laid side by side, without windows",
    )
    parser.add_argument(
        "--text",
        type=lambda words: [*dict.fromkeys(word for word in words.split(",") if word)],
        default=["code"],
        help="by comma: code (Python's library), wikitext-2, chat, or a file of yours (code)",
    )
    counts = {"tokens": (256, "that heads are watched on"), "rows": (2, "pieces of so many tokens")}
    counts["length"] = (1024, "tokens read in windows")
    for name, (count, says) in counts.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"{says} ({count})")
    parser.add_argument(
        "--windows", type=_numbers, help="by comma (64,256 for one model); '': none"
    )
    parser.add_argument("--first", type=_numbers, default=[0, 1, 4], help="by comma (0,1,4)")
    parser.add_argument("--data-dir", help="folder to take files from")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--out", default="sinks", help="folder of the numbers and pages (sinks)")
    return parser
