"""Fields of configurations: checked when they are built, and read from plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from ..errors import nearest

T = TypeVar("T")


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

    Raises ``ValueError`` for a field it does not have, naming the nearest, and ``TypeError`` for a
    value that is not a mapping where one is due.
    """
    hints = get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    built = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{kind.__name__} has no field {name!r}; {nearest(name, known)}")
        nested = [k for k in get_args(hints[name]) or [hints[name]] if dataclasses.is_dataclass(k)]
        if nested:
            if not isinstance(value, Mapping):
                raise TypeError(f"{kind.__name__}.{name} takes named fields, not {value!r}")
            value = from_dict(_of_union(nested, value), value)
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return kind(**built)


def _of_union(kinds: list[Any], values: Mapping[str, Any]) -> Any:
    """The one of several configurations that ``values`` are of; the first if they do not say.

    Models say so by their ``architecture``, data by their ``name``, one of ``NAMES``.
    """
    if len(kinds) == 1:
        return kinds[0]
    if "architecture" not in {f.name for f in dataclasses.fields(kinds[0])}:
        return next((kind for kind in kinds if values.get("name") in kind.NAMES), kinds[0])
    name, known = values.get("architecture"), {kind().architecture: kind for kind in kinds}
    if name is None:
        return kinds[0]
    if name not in known:
        raise ValueError(f"no architecture is called {name!r}; {nearest(name, known)}")
    return known[name]
