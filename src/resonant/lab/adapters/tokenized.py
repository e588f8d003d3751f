"""Prompts with responses as token ids, of which the responses' count, told by offsets."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError, in_words
from .instructions import Example

IGNORED = -100  # the label that cross-entropy leaves out


@dataclass(frozen=True)
class Tokenized:
    """Token ids and their labels (the ids of the response, -100 before); tokens of the prompt."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt: int


def tokenized(examples: Iterable[Example], tokenizer: Any, *, longest: int) -> list[Tokenized]:
    """The examples whose response begins within ``longest`` tokens, cut there.

    A token belongs to the response if it ends behind the prompt, so that one that spans the border
    does. Plain text ends with the tokenizer's end token, which is learned; a conversation ends as
    its chat template has it.

    Raises ``UserError`` for conversations without a chat template, and if nothing is left.
    """
    found = [_tokenized(example, tokenizer, longest) for example in examples]
    kept = [each for each in found if each is not None]
    if not kept:
        raise UserError(
            f"no example has a response within its first {longest} tokens; raise --training.context"
        )
    return kept


def _tokenized(example: Example, tokenizer: Any, longest: int) -> Tokenized | None:
    text, border = _text(example, tokenizer)
    templated = example.messages is not None
    coded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=not templated)
    ids, offsets = list(coded["input_ids"]), coded["offset_mapping"]
    learned = [end > border and end > start for start, end in offsets]
    if (
        not templated
        and tokenizer.eos_token_id is not None
        and ids[-1:] != [tokenizer.eos_token_id]
    ):
        ids.append(tokenizer.eos_token_id)
        learned.append(True)
    ids, learned = ids[:longest], learned[:longest]
    # The first token of all is predicted from nothing.
    if not any(learned[1:]):
        return None
    labels = [i if counts else IGNORED for i, counts in zip(ids, learned, strict=True)]
    return Tokenized(tuple(ids), tuple(labels), learned.index(True))


def _text(example: Example, tokenizer: Any) -> tuple[str, int]:
    """The whole text, and the character at which the response begins."""
    if example.messages is None:
        return example.prompt + example.response, len(example.prompt)
    if getattr(tokenizer, "chat_template", None) is None:
        raise UserError(
            "the tokenizer has no chat template for messages; give prompt and response, or a "
            "model made for conversations"
        )
    try:
        whole = tokenizer.apply_chat_template([*example.messages], tokenize=False)
        before = tokenizer.apply_chat_template(
            [*example.messages[:-1]], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # a template may raise anything
        raise UserError(f"the chat template refuses an example ({in_words(error)})") from error
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(whole, before, strict=False))
    shared = sum(1 for _ in same)
    border = whole.find(example.response.strip(), shared)
    if border < 0:
        raise UserError(
            f"the chat template changes the response {example.response[:40]!r}, so that it cannot "
            "be found in it"
        )
    return whole, border


def padded(rows: list[Tokenized], pad: int) -> dict[str, Tensor]:
    """A batch for a causal model of transformers, padded on the right."""
    longest = max(len(row.ids) for row in rows)
    fill = [longest - len(row.ids) for row in rows]
    parts = {
        "input_ids": [[*row.ids, *[pad] * n] for row, n in zip(rows, fill, strict=True)],
        "attention_mask": [[1] * len(row.ids) + [0] * n for row, n in zip(rows, fill, strict=True)],
        "labels": [[*row.labels, *[IGNORED] * n] for row, n in zip(rows, fill, strict=True)],
    }
    return {name: torch.tensor(values) for name, values in parts.items()}
