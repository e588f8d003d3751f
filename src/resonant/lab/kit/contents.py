"""What the files of runs and comparisons must hold, and the one reader of them.

Every file is a stranger's: nothing of it is run, and what it lacks is named. Readable without
torch; schemas are JSON Schema (2020-12).
"""

from __future__ import annotations

import io
import math
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError
from ...files import damaged, read_text, strict_json, write_atomically
from .folder import COMPARISON, CONFIG, COSTS, DONE, SWEEP

if TYPE_CHECKING:
    import numpy as np

Schema = Mapping[str, Any]
# Arrays by name: how many axes, and the kinds of numbers as numpy abbreviates them.
Shapes = Mapping[str, tuple[int, str]]

NUMBER, INTEGER, TEXT = ({"type": kind} for kind in ("number", "integer", "string"))


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Describe named values, of which others may stand beside the ``required`` ones."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": [*required], "properties": properties}


def by_name(each: Schema) -> Schema:
    """Describe values of one kind under any names."""
    return {"type": "object", "additionalProperties": each}


def list_of(each: Schema, *, least: int = 0) -> Schema:
    """Describe a list of values of one kind."""
    return {"type": "array", "items": each, "minItems": least}


def either(*each: Schema) -> Schema:
    """Describe a value that is of one of several kinds."""
    return {"anyOf": [*each]}


ANYTHING = {"type": "object"}
NOTHING = {"type": "null"}
PAIR = {"type": "array", "items": TEXT, "minItems": 2, "maxItems": 2}
PUBLISHED = {
    "type": "array",
    "prefixItems": [TEXT, TEXT, NUMBER],
    "minItems": 3,
    "maxItems": 3,
}
# The table: what each file of a run or a comparison must hold. Those of one domain alone stand in
# its slice, beside their names.
HELD: dict[str, Schema] = {
    CONFIG: record(
        {"data": record({"name": TEXT})},
        {
            "experiment": TEXT,
            "arm": TEXT,
            "seed": INTEGER,
            "model": ANYTHING,
            "training": ANYTHING,
            "plugins": list_of(TEXT),
            "corpus": TEXT,
            "sources": TEXT,
            "base": TEXT,
        },
    ),
    DONE: record(
        {
            "hash": TEXT,
            "arm": TEXT,
            "seed": INTEGER,
            "steps": INTEGER,
            "tokens": NUMBER,
            "learning_rate": NUMBER,
            "metrics": {
                **record({"valid_loss": NUMBER, "test_loss": NUMBER}),
                "additionalProperties": NUMBER,
            },
            "seconds": NUMBER,
        },
        {
            "parameters": NUMBER,
            "attention_parameters": NUMBER,
            "trainable_parameters": NUMBER,
            "prompt": TEXT,
            "sample": TEXT,
            "device": TEXT,
            "frame_ms": NUMBER,
            "loss_by_position": list_of(NUMBER),
            "learned_numbers": by_name(by_name(list_of(NUMBER))),
            "trainable": list_of(TEXT),
            "made_with": list_of(by_name(TEXT), least=1),
        },
    ),
    COMPARISON: record(
        {
            "experiment": TEXT,
            "says": TEXT,
            "data": TEXT,
            "arms": list_of(
                record(
                    {
                        "name": TEXT,
                        "says": TEXT,
                        "control": either(TEXT, NOTHING),
                        "changes": TEXT,
                    }
                ),
                least=1,
            ),
            "runs": list_of(TEXT, least=1),
            "ceilings": by_name(NUMBER),
        },
        {
            "unit": TEXT,
            "token": TEXT,
            "floor": either(NUMBER, NOTHING),
            "scores": by_name(TEXT),
            "compared": list_of(PAIR),
            "interactions": list_of(list_of(PAIR, least=2)),
            "published": list_of(PUBLISHED),
            "against": record({"name": TEXT, "arms": list_of(TEXT), "flops": by_name(NUMBER)}),
        },
    ),
    COSTS: record({"costs": by_name(by_name(NUMBER))}, {"hashes": by_name(TEXT)}),
    SWEEP: record(
        {
            "rates": list_of(NUMBER, least=1),
            "seed": INTEGER,
            "losses": by_name({**by_name(either(NUMBER, NOTHING)), "minProperties": 1}),
        }
    ),
}


def read_held(path: Path, schema: Schema | None = None) -> Any:
    """Read a file of JSON or YAML that holds what ``schema`` says, or what ``HELD`` does.

    Raises ``UserError`` for a file that is missing, damaged, or holds something else.
    """
    text = read_text(path)
    try:
        values = _yaml(text) if path.suffix == ".yaml" else strict_json(text)
    except RecursionError as error:
        raise damaged(path, "it is nested too deep") from error
    except ValueError as error:
        raise damaged(path, first_line(error)) from error
    check_held(path, values, HELD[path.name] if schema is None else schema)
    return values


def _yaml(text: str) -> Any:
    """Read a YAML document, of plain kinds alone; ``ValueError`` for what is none."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def check_held(path: Path, values: Any, schema: Schema) -> None:
    """Raise ``UserError`` unless the values of a file are what ``schema`` says.

    Without jsonschema, which is of the extra "lab", names and kinds are checked at the top alone.
    """
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match
    except ModuleNotFoundError:
        _check_top(path, values, schema)
        return
    try:
        wrong = best_match(Draft202012Validator(schema).iter_errors(values))
    except RecursionError as error:
        raise damaged(path, "it is nested too deep") from error
    if wrong is not None:
        where = ".".join(str(part) for part in wrong.absolute_path)
        said = first_line(wrong.message)
        raise damaged(path, f"{where}: {said}" if where else said)
    for name, number in _numbers(values):
        if not math.isfinite(number):
            raise damaged(path, f"{name} is {number}")


KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
}


def _check_top(path: Path, values: Any, schema: Schema) -> None:
    """Raise ``UserError`` unless the names that must be there are, each of its kind."""
    if not isinstance(values, KINDS[schema["type"]]):
        raise damaged(path, f"it holds no {schema['type']}")
    for name in schema.get("required", ()):
        if name not in values:
            raise damaged(path, f"it lacks {name!r}")
        kinds = KINDS.get(schema["properties"][name].get("type", ""), (object,))
        if not isinstance(values[name], kinds):
            raise damaged(path, f"{name} is {first_line(repr(values[name]))}")


def _numbers(values: Any, name: str = "") -> Any:
    """Every float in nested values, with its dotted name."""
    if isinstance(values, float):
        yield name, values
    elif isinstance(values, (dict, list)):
        named = values.items() if isinstance(values, dict) else enumerate(values)
        for key, value in named:
            yield from _numbers(value, f"{name}.{key}" if name else str(key))


def first_line(said: object) -> str:
    """The first line of a message, cut short: files may be long."""
    line = next(iter(str(said).strip().splitlines()), "")
    return line if len(line) <= 160 else f"{line[:160]} ..."


def read_config(directory: Path) -> dict[str, Any]:
    """Read the configuration of the run in ``directory``, as plain values.

    Raises ``UserError`` for a file that is missing or damaged.
    """
    if not (directory / CONFIG).is_file():
        raise UserError(
            f"{directory} holds no {CONFIG}; give a whole folder, as `resonant compare` left it"
        )
    return read_held(directory / CONFIG)


def described_run(directory: Path) -> dict[str, Any]:
    """Read the run's own configuration where it lies beside the model; else nothing.

    So it is without PyYAML, which is of the extra "lab": a line on stderr says so.
    """
    path = directory / CONFIG
    if not path.is_file():
        return {}
    try:
        return read_config(directory)
    except ModuleNotFoundError:
        said = f"resonant: {path} is not read without PyYAML (pip install 'resonant[lab]')"
        print(f"{said}: options that it would give are at their defaults", file=sys.stderr)
        return {}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name, compressed, so that ``read_arrays`` reads them."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue(), path.stem)


def read_arrays(path: Path, shapes: Shapes | None = None) -> dict[str, np.ndarray] | None:
    """Read arrays by name, or None where there is no such file.

    ``shapes`` says which arrays must be there, with how many axes and of which kinds of number.

    Raises ``UserError`` for a file that is damaged or holds something else.
    """
    import numpy as np

    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise damaged(path, first_line(error)) from error
    except (AttributeError, TypeError) as error:  # one array alone, no archive of them
        raise damaged(path, "it holds no arrays by name") from error
    for name, (axes, kinds) in (shapes or {}).items():
        if name not in found:
            raise damaged(path, f"it holds no array {name!r}")
        if found[name].ndim != axes or found[name].dtype.kind not in kinds:
            raise damaged(path, f"{name} is an array of {found[name].dtype} {found[name].shape}")
    return found
