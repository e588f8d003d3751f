"""Prompts with responses as token ids, of which the responses' are learned, found by offsets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from ...errors import UserError, in_words
from .instructions import Example

IGNORED = -100  # the label that cross-entropy leaves out
ANSWERS = ("yes", "no")  # they differ in their first and their last character
DATE = datetime(2026, 1, 1)  # of templates that write the date: runs do not depend on the day
SYSTEM = ("system", "developer")  # roles


@dataclass(frozen=True)
class Tokenized:
    """Token ids and their labels (the ids of the response, -100 before); tokens of the prompt."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    prompt: int


def tokenized(examples: Iterable[Example], tokenizer: Any, *, longest: int) -> list[Tokenized]:
    """Tokenize the examples whose response begins within ``longest`` tokens, cut there.

    A token belongs to the response if it ends behind the prompt, so that one that spans the border
    does. Plain text ends with the tokenizer's end token, which is learned whoever appends it. A
    conversation ends as its chat template has it, and with the end token where that has nothing.

    Raises ``UserError`` for conversations without a chat template, for templates that leave out the
    response or a message of the prompt, and if nothing is left.
    """
    found = [_tokenized(example, tokenizer, longest) for example in examples]
    kept = [each for each in found if each is not None]
    if not kept:
        raise UserError(
            f"no example has a response within its first {longest} tokens; raise --training.context"
        )
    return kept


@dataclass(frozen=True)
class _Rendered:
    """A whole text; the character at which the response begins; whether an end follows it."""

    text: str
    border: int
    ends: bool = False


def _tokenized(example: Example, tokenizer: Any, longest: int) -> Tokenized | None:
    if example.messages is None:
        rendered = _Rendered(example.prompt + example.response, len(example.prompt))
    else:
        rendered = _conversation(example.messages, tokenizer)
    coded = tokenizer(
        rendered.text,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        add_special_tokens=example.messages is None,
    )
    ids, border = list(coded["input_ids"]), rendered.border
    parts = zip(coded["offset_mapping"], coded["special_tokens_mask"], strict=True)
    learned = [not added and (end > border or start >= border) for (start, end), added in parts]
    eos = tokenizer.eos_token_id
    if not rendered.ends and eos is not None:
        if ids[-1:] == [eos]:  # the tokenizer appended it
            learned[-1] = True
        else:
            ids.append(eos)
            learned.append(True)
    ids, learned = ids[:longest], learned[:longest]
    # The first token of all is predicted from nothing.
    if not any(learned[1:]):
        return None
    labels = [i if counts else IGNORED for i, counts in zip(ids, learned, strict=True)]
    return Tokenized(tuple(ids), tuple(labels), learned.index(True))


def _conversation(messages: Sequence[dict[str, Any]], tokenizer: Any) -> _Rendered:
    """Render a conversation; the response begins where two different ones part."""
    if getattr(tokenizer, "chat_template", None) is None:
        raise UserError(
            "the tokenizer has no chat template for messages; give prompt and response, or a "
            "model made for conversations"
        )
    *before, last = messages
    whole, *others = (
        rendered(tokenizer, [*before, each])
        for each in (last, *(_with_text(last, text) for text in ANSWERS))
    )
    if len(set(others)) == 1:
        raise UserError(
            "the chat template renders two different responses alike, so that none can be learned; "
            "give prompt and response, or another template"
        )
    border = _shared([whole, *others])
    after = _shared([each[::-1] for each in others])
    ends = bool(others[0][len(others[0]) - after :].strip())
    if not any(_left_out(tokenizer, before, [last], whole)):
        return _Rendered(whole, border, ends)
    prompt = rendered(tokenizer, before, add_generation_prompt=True)
    left_out = next(_left_out(tokenizer, before, [], prompt, add_generation_prompt=True), None)
    if left_out is not None:
        move = "its text into the user's message" if left_out["role"] in SYSTEM else "it elsewhere"
        raise UserError(
            f"the chat template leaves out the {left_out['role']} message "
            f"{left_out['content'][:40]!r}; put {move}, or use another template"
        )
    return _Rendered(prompt + whole[border:], len(prompt), ends)


def _shared(texts: Sequence[str]) -> int:
    """Count the characters that all texts begin with."""
    return sum(1 for _ in takewhile(lambda each: len(set(each)) == 1, zip(*texts, strict=False)))


def _left_out(
    tokenizer: Any,
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    whole: str,
    **options: bool,
) -> Iterator[dict[str, Any]]:
    """Find the prompt's messages that say something and, changed, leave ``whole`` as it is."""
    for index, message in enumerate(before):
        if message["role"] in (*SYSTEM, "user") and message["content"].strip():
            other = [*before, *after]
            other[index] = _with_text(message, f"{message['content']} {ANSWERS[0]}")
            if rendered(tokenizer, other, **options) == whole:
                yield message


def _with_text(message: dict[str, Any], text: str) -> dict[str, Any]:
    """Put another text into a message, in its reasoning too."""
    return {
        key: text if isinstance(value, str) and key not in ("role", "name") else value
        for key, value in message.items()
    }


def rendered(tokenizer: Any, messages: list[dict[str, Any]], **options: bool) -> str:
    """Render a conversation by the tokenizer's chat template, dated ``DATE``.

    Raises ``UserError`` for what the template refuses.
    """
    try:
        template = dated(tokenizer.get_chat_template())
        return tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, **options
        )
    except Exception as error:  # a template may raise anything
        shown = messages[-1]["content"][:40]
        raise UserError(
            f"the chat template refuses the example that ends in {shown!r} ({in_words(error)})"
        ) from error


def dated(template: str) -> str:
    """Let a template write ``DATE`` where it would write today's, in the formats that it names."""
    formats = dict.fromkeys(re.findall(r"""strftime_now\(\s*['"]([^'"]*)['"]""", template))
    if not formats:
        return template
    written = "".join(
        f"{{%- if format == {json.dumps(each)} -%}}{DATE.strftime(each)}{{%- endif -%}}"
        for each in formats
    )
    return f"{{%- macro strftime_now(format) -%}}{written}{{%- endmacro -%}}{template}"


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
