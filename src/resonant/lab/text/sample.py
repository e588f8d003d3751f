"""`resonant sample`: text from a trained model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ...errors import UserError, check_seed, in_words
from ...files import WEIGHTS
from ...integrations.opening import is_foreign
from ...integrations.smollm2 import folder_of
from ..kit.contents import described_run
from ..kit.folder import require
from ..kit.plugins import import_plugins_of

MOST_SAMPLES = 1_000  # they are drawn side by side
TYPED_CHARACTERS = 200_000  # of a prompt; more is a mistake, a data file for instance


def main(arguments: list[str]) -> int:
    """Print a continuation of the prompt."""
    options = make_parser().parse_args(arguments)
    directory = folder_of(options.run)
    foreign = directory.is_dir() and is_foreign(directory)
    _check(options, None if foreign else directory)
    if foreign:
        return _foreign(directory, options)
    for name in ("chat", "system"):
        if getattr(options, name):
            raise UserError(f"--{name} is for models of transformers; {directory} has no template")
    import_plugins_of(directory, options.plugins)
    import torch

    from ...models.generation import generate
    from .reading import open_text_model

    torch.set_num_threads(1)
    try:
        model, tokenizer = open_text_model(directory)
    except (ValueError, FileNotFoundError, OverflowError) as error:
        raise UserError(str(error)) from error
    prompt = _prompt(options)
    drawing = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "seed")}
    trained = described_run(directory).get("training", {})
    drawing["context"] = options.context or trained.get("context")
    try:
        tokens = torch.tensor([tokenizer.encode(prompt).tolist()] * options.samples)
        drawn = generate(model, tokens, options.tokens, **drawing)
    except (ValueError, FileNotFoundError, OverflowError) as error:
        raise UserError(str(error)) from error
    _show([prompt + tokenizer.decode(row[tokens.shape[1] :].numpy()) for row in drawn])
    return 0


def _foreign(directory: Path, options: argparse.Namespace) -> int:
    """A model of transformers, with or without adapters, by its own ``generate``."""
    import torch

    from ...integrations.opening import open_causal
    from ...models.generation import check_choice_of_token

    try:
        check_choice_of_token(options.temperature, options.top_k, options.top_p)
    except ValueError as error:
        raise UserError(str(error)) from error
    model, tokenizer = open_causal(directory)
    prompt = _prompt(options)
    said = prompt
    if options.chat or options.system is not None:
        prompt, said = _turn(tokenizer, prompt, options.system), ""
    if options.tokens == 0:  # their generate takes no such number
        _show([said] * options.samples)
        return 0
    kind = {"return_tensors": "pt", "return_token_type_ids": False}
    kind["add_special_tokens"] = said == prompt  # a template has its own
    inputs = tokenizer([prompt] * options.samples, **kind)
    cold = options.temperature == 0
    drawing = {"do_sample": False} if cold else {"do_sample": True, "top_p": options.top_p or 1.0}
    if not cold:
        drawing |= {"temperature": options.temperature, "top_k": options.top_k or 0}
    torch.manual_seed(options.seed)
    pad = tokenizer.pad_token_id or tokenizer.eos_token_id or 0
    drawn = model.generate(**inputs, **drawing, max_new_tokens=options.tokens, pad_token_id=pad)
    start = inputs["input_ids"].shape[1]
    _show([said + tokenizer.decode(row[start:], skip_special_tokens=True) for row in drawn])
    return 0


def _turn(tokenizer: Any, prompt: str, system: str | None) -> str:
    """Render the prompt as the user's turn of a conversation."""
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": prompt})
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # there may be no template, and one may raise anything
        raise UserError(
            f"the chat template refuses the prompt ({in_words(error)}); leave out --chat and "
            "--system, or take a model made for conversations"
        ) from error


def _prompt(options: argparse.Namespace) -> str:
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    # Where the locale is not UTF-8, bytes of the terminal come as halves of characters.
    prompt = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if not prompt or len(prompt) > TYPED_CHARACTERS:
        raise UserError(f"the prompt has {len(prompt)} characters; give 1 to {TYPED_CHARACTERS}")
    return prompt


def _show(texts: list[str]) -> None:
    print("\n---\n".join(texts))


def _check(options: argparse.Namespace, directory: Path | None) -> None:
    if directory is not None:
        move = "give the folder of a finished run, such as runs/demo/softmax-seed0"
        require(directory, WEIGHTS, move)
    check_seed(options.seed)
    for name, least in (("samples", 1), ("context", 2), ("tokens", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} must be at least {least}; it is {value}")
    if options.samples > MOST_SAMPLES:
        raise UserError(f"--samples is at most {MOST_SAMPLES:,}; it is {options.samples:,}")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant sample", description="Text from the folder of a finished run."
    )
    parser.add_argument(
        "run", help="folder of a run, such as runs/demo/softmax-seed0, or of transformers; smollm2"
    )
    parser.add_argument("--prompt", default="\n", help="what to go on from; - reads it")
    parser.add_argument(
        "--chat", action="store_true", help="the prompt is a turn of a conversation (transformers)"
    )
    parser.add_argument("--system", help="what the conversation begins with; means --chat")
    parser.add_argument("--tokens", type=int, default=300, help="how many to draw (300)")
    parser.add_argument("--samples", type=int, default=1, help="how many texts (1)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 = the likeliest (0.8)")
    parser.add_argument("--top-k", type=int, help="draw from the k likeliest")
    parser.add_argument("--top-p", type=float, help="draw from the likeliest that reach p")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    parser.add_argument(
        "--context", type=int, help="tokens the model looks back on (as many as in training)"
    )
    parser.add_argument(
        "--plugins", help="modules to import first, by comma (a run's too: they are code)"
    )
    return parser
