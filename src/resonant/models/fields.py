"""Fields of configurations: checked when they are built, and read from plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from ..errors import nearest

T = TypeVar("T")
READ, FIXED, KNOWN = "read", "fixed", "known"  # keys of a field's metadata, see below


@dataclass(frozen=True)
class Condition:
    """Where an option is read: in words, and as a question to the configuration it is a field of.

    ``{}`` in the words stands for the dotted name of that configuration.
    """

    says: str
    holds: Callable[[Any], bool]


def read_where(default: Any, says: str, holds: Callable[[Any], bool]) -> Any:
    """A field that only configurations read of which ``holds`` is true."""
    return dataclasses.field(default=default, metadata={READ: Condition(says, holds)})


def read_with(default: Any, name: str, value: str) -> Any:
    """A field that is read where the field ``name`` beside it is ``value``."""
    says = f"with {{}}.{name} = {value}"
    return read_where(default, says, lambda config: getattr(config, name) == value)


def fixing(*names: str) -> dict[str, tuple[str, ...]]:
    """Metadata of a nested field of which the model is about ``names``: no options of its arms."""
    return {FIXED: names}


def open_choice(default: Any, *known: str) -> Any:
    """A field that names one of ``known``, or what a plugin registers."""
    return dataclasses.field(default=default, metadata={KNOWN: known})


def options(config: Any, prefix: str) -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(dotted name, field, configuration it is a field of) of every field, nested ones too."""
    for each in dataclasses.fields(config):
        name, value = f"{prefix}.{each.name}", getattr(config, each.name)
        yield name, each, config
        if dataclasses.is_dataclass(value):
            yield from options(value, name)


def fixed_options(config: Any, prefix: str) -> set[str]:
    """Dotted names of the fields that ``config`` is about, see ``fixing``."""
    found = options(config, prefix)
    return {f"{name}.{inner}" for name, each, _ in found for inner in each.metadata.get(FIXED, ())}


def field_docs(kind: type) -> dict[str, str]:
    """What the docstring of a configuration says of each field."""
    lines = (kind.__doc__ or "").partition("Args:")[2].splitlines()
    pairs = (line.strip().partition(": ") for line in lines if ": " in line)
    return {name: says for name, _, says in pairs}


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ``ValueError`` naming the nearest of ``choices`` if ``value`` is none of them."""
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}; {nearest(value, choices)}")


def check_least(prefix: str, config: Any, least: Mapping[str, int]) -> None:
    """Raise ``ValueError`` naming the first field of ``config`` below its least value."""
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and value < bound:
            raise ValueError(f"{prefix}.{name} must be at least {bound}; it is {value}")


def from_preset(what: str, name: str, presets: Mapping[str, Callable[[], T]]) -> T:
    """The configuration called ``name``; ``ValueError`` names the nearest if there is none."""
    if name not in presets:
        raise ValueError(f"no {what} is called {name!r}; {nearest(name, presets)}")
    return presets[name]()


def with_changes(config: T, mechanism: str | None, changes: Mapping[str, Any]) -> T:
    """``config`` with fields replaced, and the mechanism of its attention if one is given."""
    made: Any = dataclasses.replace(config, **changes)  # type: ignore[type-var]
    if mechanism is None:
        return made
    attention = dataclasses.replace(made.attention, mechanism=mechanism)
    return dataclasses.replace(made, attention=attention)


def from_dict(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build a configuration dataclass, nested ones included, from plain values.

    What is a configuration already is taken as it is.

    Raises ``ValueError`` for a field it does not have, naming the nearest, and ``TypeError`` for a
    value that is not a mapping where one is due.
    """
    hints = get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    built = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{kind.__name__} has no field {name!r}; {nearest(name, known)}")
        if dataclasses.is_dataclass(hints[name]) and not isinstance(value, hints[name]):  # type: ignore[arg-type]
            if not isinstance(value, Mapping):
                raise TypeError(f"{kind.__name__}.{name} takes named fields, not {value!r}")
            value = from_dict(hints[name], value)  # type: ignore[arg-type]
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return kind(**built)
