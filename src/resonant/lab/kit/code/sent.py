"""Values and functions of one's own, sent to other processes."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import pickle
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ....errors import UserError, in_words
from ..plugins import digest_of_plugins
from .identity import Cached, digest_leniently, needed

# Modules, and settings of modules, that this process found as they were planned, by their hashes.
_accepted: dict[str, str] = {}


def packed(value: Any, what: str) -> str:
    """Pickle a value for ``unpacked``, with the code that no module holds, by cloudpickle.

    Raises ``UserError``, which names ``what`` it is, for a value that cannot be pickled.
    """
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        """One that sends functions under ``functools.cache`` like those without."""

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Cached) and not importable(obj):
                return lru_cache(**obj.cache_parameters()), (obj.__wrapped__,)
            return super().reducer_override(obj)

    buffer = io.BytesIO()
    try:
        Pickler(buffer).dump(value)
    except Exception as error:  # of whatever class, each in its own way
        raise UserError(
            f"{what} cannot be sent to a worker ({in_words(error)}); make what cannot be sent "
            "inside your functions, or pass workers=0 to run in this process"
        ) from error
    modules, settings = needed(value)
    said = {
        "path": sys.path,
        "process": os.getpid(),
        "modules": modules,
        "settings": settings,
        "sent": base64.b64encode(buffer.getvalue()).decode(),
    }
    return json.dumps(said)


def unpacked(text: str) -> Any:
    """Take up what ``packed`` made in the process that started this one: never from a file.

    Raises ``UserError`` for what this process cannot import, and for modules that are not what
    they were when it was packed.
    """
    said = json.loads(text)
    sys.path[:] = said["path"]
    try:
        value = pickle.loads(base64.b64decode(said["sent"]))
    except Exception as error:  # of whatever class, each in its own way
        raise UserError(
            f"a worker cannot import or rebuild what it was sent ({in_words(error)}); put it into "
            "a module that can be imported, or pass workers=0 to run in the process that has it"
        ) from error
    if said["process"] != os.getpid():
        _check_modules(said["modules"], said["settings"])
    return value


def _check_modules(modules: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Raise ``UserError`` unless this process imported what the one that planned had."""
    for name, planned in modules.items():
        if _accepted.get(name) != planned:  # what was imported once stays as it was
            if digest_of_plugins([name]) != planned:
                raise UserError(
                    f"the source of {name}, or of what it imports, changed since this run was "
                    "planned; run the comparison anew"
                )
            _accepted[name] = planned
    for name, planned in settings.items():
        module, _, attribute = name.rpartition(":")
        if module in sys.modules and _accepted.get(name) != planned:
            value = vars(sys.modules[module]).get(attribute)
            if digest_leniently(value) != planned:
                raise UserError(
                    f"{module}.{attribute} was set to another value than {module} gives it, which "
                    "a worker that imports it cannot see; pass it in config or in the arm, or "
                    "pass workers=0"
                )
            _accepted[name] = planned


def importable(value: Any) -> str:
    """Name a function or class as "module:name" where a fresh process finds it so, else ""."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    if "<" in name or module in (None, "__main__") or module not in sys.modules:
        return ""
    found: Any = sys.modules[module]
    for each in name.split("."):
        found = getattr(found, each, None)
    return f"{module}:{name}" if found is value and _spec(module) else ""


def _spec(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, AttributeError, ValueError):
        return False
