"""`resonant bench --decoding MODEL`: what a token costs, by context and attention."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ..lab.kit.grid import Grid

DEFAULTS: dict[str, Any] = {"contexts": [256, 1024, 4096], "keys": 256, "first": 4, "pieces": 4}
CHARACTERS = 12  # of a token, at most


def measure_decoding(options: argparse.Namespace) -> dict[str, Any]:
    """Print what a token costs after each context; returns the numbers."""
    _check(options)
    from ..benchmarks.cases import THREADS, set_threads
    from ..benchmarks.decoding import COUNTED, price_list, ways
    from ..integrations.opening import open_causal
    from ..integrations.smollm2 import folder_of
    from ..lab.kit.grid import as_markdown, as_rich, table_console
    from ..lab.kit.progress import progress

    set_threads(THREADS)
    model, tokenizer = open_causal(folder_of(options.decoding))
    text = None
    if options.text is not None:
        length = max(options.contexts) + COUNTED
        text = _pieces(Path(options.text), tokenizer, options.pieces, length)
    offered = ways(options.keys, options.first)
    try:
        with progress(f"decoding with {options.decoding}") as part:
            report = part("ways to attend", len(offered))
            found = price_list(model, options.contexts, offered, text=text, report=report)
    except ValueError as error:
        raise UserError(f"{options.decoding}: {error}") from error
    except IndexError as error:
        raise UserError(_beyond(options, model)) from error
    numbers = {
        "threads": THREADS,
        "model": options.decoding,
        "pieces": 0 if text is None else options.pieces,
        "counted": COUNTED,
        "prices": [dataclasses.asdict(each) for each in found],
    }
    console = table_console(stderr=options.json == "-")
    for heading, grid in price_tables(numbers).items():
        if options.markdown:
            console.print(as_markdown(grid, heading), soft_wrap=True)
        else:
            console.print(as_rich(grid, heading))
            console.print(grid.legend)
    return numbers


def _beyond(options: argparse.Namespace, model: Any) -> str:
    """Say that the model lacks a position or a token that it was given."""
    from ..benchmarks.decoding import COUNTED

    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", "unknown")
    return (
        f"{options.decoding} has {positions} positions and {config.vocab_size:,} tokens, and was "
        "given one beyond: --contexts with the tokens after them reach "
        f"{max(options.contexts) + COUNTED}; ask for shorter --contexts"
    )


def price_tables(numbers: dict[str, Any]) -> dict[str, Grid]:
    """Lay out tables by heading of what was measured: ways to attend by contexts."""
    from ..lab.kit.grid import Grid

    prices = {(each["way"], each["context"]): each for each in numbers["prices"]}
    contexts = list(dict.fromkeys(context for _, context in prices))
    offered = list(dict.fromkeys(way for way, _ in prices))

    def table(says: str, cell: Any, legend: str) -> dict[str, Grid]:
        rows = [[way, *(cell(prices[way, n]) for n in contexts)] for way in offered]
        columns = ("row", *(f"after {n:,}" for n in contexts))
        return {says: Grid(columns, rows, legend)}

    made = numbers["model"]
    tables = table(
        "Tokens a second",
        lambda each: f"{each['tokens_per_second']:.1f}",
        f"Tokens a second of {made}, one by one in one row, float32 on {numbers['threads']} threads"
        ": elapsed time, the median of 3 rounds in which ways to attend take turns.",
    )
    tables |= table(
        "Memory of the cache",
        lambda each: _megabytes(each["cache_bytes"]),
        "Megabytes of keys and values of one row, in float32.",
    )
    if numbers["pieces"]:
        tables |= table(
            "Loss after the context",
            lambda each: f"{each['loss']:.3f}",
            f"Loss in nats per token of the {numbers['counted']} tokens after the context, the "
            f"mean over {numbers['pieces']} pieces of text. Nothing is trained.",
        )
    return tables


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}" if count >= 1e5 else f"{count / 1e6:.2g}"


def _pieces(path: Path, tokenizer: Any, count: int, length: int) -> Tensor:
    """Read token ids (piece, token) of the text in a file."""
    import torch

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} as UTF-8 text ({error}); check --text") from error
    ids = tokenizer(text[: CHARACTERS * count * length], add_special_tokens=False)["input_ids"]
    if len(ids) < count * length:
        raise UserError(
            f"{path} has {len(ids):,} tokens; {count} pieces of {length:,} are more: give a longer "
            "text, fewer --pieces or shorter --contexts"
        )
    return torch.tensor(ids[: count * length]).view(count, length)


def _check(options: argparse.Namespace) -> None:
    from ..benchmarks.decoding import TOKENS

    if options.rows or options.list:
        raise UserError("--decoding stands in place of rows; leave the words and --list out")
    for name, value in DEFAULTS.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
        elif name == "pieces" and options.text is None:
            raise UserError("--pieces are those of --text FILE; name the text")
    if min(options.contexts) <= TOKENS:
        raise UserError(
            f"--contexts are longer than {TOKENS} tokens; {min(options.contexts)} is not: ask for "
            "longer ones"
        )
    if not 0 < options.first < options.keys:
        raise UserError(
            f"--first is between 1 and --keys {options.keys}, which holds them; it is "
            f"{options.first}"
        )
    if options.pieces < 1:
        raise UserError(f"--pieces must be at least 1; it is {options.pieces}")
