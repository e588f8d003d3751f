"""Prompts with responses: docstrings of Python's own library, or a user's JSON lines."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..text.corpus import SPLITS, split_of, stdlib_files
from .config import InstructionsConfig

SHORTEST, LONGEST = 20, 300  # characters of a docstring's first paragraph
LEAST = 20  # examples of a file


@dataclass(frozen=True)
class Example:
    """One prompt with its response; a conversation is its messages, of which the last is learned.

    ``messages`` are of the form that chat templates take, or None for plain text.
    """

    prompt: str
    response: str
    messages: tuple[dict[str, Any], ...] | None = None


@dataclass(frozen=True)
class Instructions:
    """Examples by split, and a hash of them; what of their file is not learned from."""

    name: str
    splits: dict[str, list[Example]]
    digest: str
    with_tools: int = 0
    unread: tuple[str, ...] = ()


@dataclass
class _Found:
    """Examples with their split; how many have tools; keys of lines that are not read."""

    examples: list[tuple[str, Example]]
    with_tools: int = 0
    unread: frozenset[str] = frozenset()


@lru_cache(maxsize=2)
def load_instructions(config: InstructionsConfig) -> Instructions:
    """The examples that ``config`` names, split.

    Raises ``UserError`` for a file that cannot be read, lines that are no examples, and too few.
    """
    own = config.name == "stdlib-docs"
    found = _Found(list(_stdlib())) if own else _file(Path(config.path or ""))
    splits: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for split, example in found.examples:
        splits[split].append(example)
    learned = {repr(e) for e in splits["train"]}
    for split in ("valid", "test"):  # the library copies some of its functions
        splits[split] = [e for e in splits[split] if repr(e) not in learned]
    count = sum(map(len, splits.values()))
    prompts = {e.prompt or repr((e.messages or ())[:-1]) for each in splits.values() for e in each}
    if count >= LEAST and len(prompts) < LEAST:
        raise UserError(
            f"{config.path or config.name} has {count} examples of {len(prompts)} prompts; "
            f"those of one prompt stay in one split, so at least {LEAST} prompts are needed"
        )
    if any(not examples for examples in splits.values()) or count < LEAST:
        raise UserError(
            f"{config.path or config.name} has {count} examples"
            + (f" ({found.with_tools} more use tools)" if found.with_tools else "")
            + f"; a comparison needs at least {LEAST}, some hundreds rather, to split into train, "
            "valid and test"
        )
    text = json.dumps({s: [vars(e) for e in each] for s, each in splits.items()}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Instructions(config.name, splits, digest, found.with_tools, tuple(sorted(found.unread)))


def describe(instructions: Instructions) -> str:
    """One line for tables: the name, how many, hash, and the Python whose library it is."""
    count = sum(map(len, instructions.splits.values()))
    own = instructions.name == "stdlib-docs"
    source = f" of Python {platform.python_version()}" if own else ""
    tools, unread = instructions.with_tools, instructions.unread
    return (
        f"{instructions.name}{source}, {count:,} examples, sha256 {instructions.digest[:12]}"
        + (f"; {tools:,} left out because they use tools" if tools else "")
        + (f"; keys not read: {', '.join(unread)}" if unread else "")
    )


def _stdlib() -> Iterator[tuple[str, Example]]:
    """Heads of documented functions, each file in the split it has in the text ``stdlib``."""
    for split, path in stdlib_files():
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # templates of other programs lie there too
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                document = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n\n")[0]
                if SHORTEST <= len(document) <= LONGEST and document.isascii():
                    prompt = f'def {node.name}({ast.unparse(node.args)}):\n    """'
                    body = document.replace("\n", "\n    ")
                    yield split, Example(prompt, f'{body}"""\n')


def _file(path: Path) -> _Found:
    """Lines split by the hash of what comes before the response, so that no prompt is in two."""
    try:
        # By line feeds alone: other separators may stand inside JSON.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check --data.path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text ({error}); convert it") from error
    found = _Found([])
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        values = _values(line, where)
        if _uses_tools(values):
            found.with_tools += 1
            continue
        example = _example(values, where)
        before = example.prompt or json.dumps((example.messages or ())[:-1], sort_keys=True)
        found.examples.append((split_of(before), example))
        read = {"prompt", "response"} if example.messages is None else {"messages"}
        found.unread |= values.keys() - read
    return found


WANTED = 'give {"prompt": TEXT, "response": TEXT}, or {"messages": [{"role", "content"}, ...]}'


def _values(line: str, where: str) -> Any:
    """Read a line of JSON."""
    try:
        values = json.loads(line)
        line.encode()
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise UserError(
            f"{where} holds half a character (the lone surrogate U+{code:X}); write the whole one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON ({error}); {WANTED}") from error
    return values


def _example(values: Any, where: str) -> Example:
    if isinstance(values, dict):
        if all(isinstance(values.get(name), str) for name in ("prompt", "response")):
            if not values["response"].strip():
                raise UserError(f"{where} has an empty response; leave the line out")
            return Example(values["prompt"], values["response"])
        messages = values.get("messages")
        if isinstance(messages, list) and messages and all(map(_is_message, messages)):
            if messages[-1]["role"] != "assistant":
                raise UserError(
                    f"{where} ends with a message of {messages[-1]['role']!r}, but the last one is "
                    "what is learned; end with the assistant's"
                )
            if not messages[-1]["content"].strip():
                raise UserError(f"{where} has an empty response; leave the line out")
            return Example("", messages[-1]["content"], tuple(messages))
    raise UserError(f"{where} is no example; {WANTED}")


def _uses_tools(values: Any) -> bool:
    """Say whether a conversation offers, calls or answers for tools: templates need more then."""
    if not isinstance(values, dict):
        return False
    messages = values.get("messages")
    said = (
        [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
    )
    return any(values.get(key) for key in ("tools", "functions")) or any(
        each.get("role") in ("tool", "function")
        or any(each.get(key) for key in ("tool_calls", "function_call"))
        for each in said
    )


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), str) for name in ("role", "content")
    )
