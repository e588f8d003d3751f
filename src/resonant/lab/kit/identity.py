"""Values and functions of one's own: hashed by what they are, sent to other processes."""

from __future__ import annotations

import base64
import contextlib
import dis
import hashlib
import importlib.util
import io
import json
import pickle
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch

from ...errors import UserError, in_words
from .plugins import digest_of_plugins, is_ours

Cached = type(lru_cache(len))  # what functools.cache makes of a function
PLAIN = (type(None), bool, int, float, complex, str, bytes)
# Of a class: what Python adds itself.
ADDED = {"__dict__", "__weakref__", "__module__", "__doc__", "__slotnames__"}
ADDED |= {"__abstractmethods__", "_abc_impl"}
INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class Untellable(ValueError):
    """A value that has no content to hash, such as an open file or a lock."""


def digest(value: Any) -> str:
    """Hash a value by its content, functions and classes by their code.

    Arrays and tensors count by their numbers; objects by their class and state; what an installed
    package holds by its name; modules of one's own by their source and what they import from
    beside it; code that no file holds (of a script's ``__main__``, of a notebook) by its bytecode
    and the globals that it reads, so that comments and lines do not count.

    Raises ``Untellable`` for a value that has no content to hash.
    """
    return _Digest().of(value).hex()


def parts(function: Any) -> dict[str, str]:
    """Hash a function and, under their names, the globals that it reads itself."""
    inner = function.func if isinstance(function, partial) else function
    if not isinstance(inner, FunctionType) or _home(inner.__module__) != "here":
        return {"code": digest(function)}
    given = (function.args, function.keywords) if isinstance(function, partial) else ()
    cells = _cells(inner)
    found = {"code": digest((inner.__code__, cells, inner.__defaults__, inner.__kwdefaults__))}
    found |= {"arguments": digest(given)} if given else {}
    known = _Digest()
    for name, value in _globals(inner):
        found[f"global {name}"] = known.leniently(value).hex()
    return found


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
    said = {"path": sys.path, "sent": base64.b64encode(buffer.getvalue()).decode()}
    return json.dumps(said)


def unpacked(text: str) -> Any:
    """Take up what ``packed`` made in the process that started this one: never from a file.

    Raises ``UserError`` for what this process cannot import.
    """
    said = json.loads(text)
    sys.path[:] = said["path"]
    try:
        return pickle.loads(base64.b64decode(said["sent"]))
    except Exception as error:  # of whatever class, each in its own way
        raise UserError(
            f"a worker cannot import or rebuild what it was sent ({in_words(error)}); put it into "
            "a module that can be imported, or pass workers=0 to run in the process that has it"
        ) from error


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


def _home(module: str | None) -> str:
    """Say where a module's code is: "installed", "local" (a file of one's own) or "here"."""
    found = sys.modules.get(module or "__main__")
    if module in (None, "__main__") or found is None:
        return "here"
    file = getattr(found, "__file__", None)
    if file is None:  # compiled into Python
        return "installed" if getattr(found, "__spec__", None) is not None else "here"
    inside = is_ours(found.__name__) or "site-packages" in Path(file).parts
    return "installed" if inside or file.startswith(INSTALLED) else "local"


def _globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Global values that a function reads, builtins left out."""
    for name in sorted(_global_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _global_names(code: CodeType) -> set[str]:
    read = ("LOAD_GLOBAL", "LOAD_NAME")
    found = {each.argval for each in dis.get_instructions(code) if each.opname in read}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found |= _global_names(each)
    return found


class _Digest:
    """The hashes of one call: each object once, cycles by the order in which they were met."""

    def __init__(self) -> None:
        self.known: dict[int, bytes] = {}
        self.kept: list[Any] = []  # so that no id is used again

    def of(self, value: Any) -> bytes:
        if type(value) in PLAIN:
            return _joined(type(value).__name__, repr(value).encode())
        key = id(value)
        if key not in self.known:
            self.kept.append(value)
            self.known[key] = _joined("again", len(self.known).to_bytes(8, "big"))
            self.known[key] = _joined(type(value).__qualname__, *self._parts(value))
        return self.known[key]

    def leniently(self, value: Any) -> bytes:
        """A global may be anything: what has no content to hash counts by its type."""
        try:
            return self.of(value)
        except Untellable:
            return _joined("untellable", type(value).__qualname__.encode())

    def _parts(self, value: Any) -> list[bytes]:
        """The hashes of what an object is made of."""
        kind = type(value)
        if kind is list or kind is tuple:
            return [self.of(each) for each in value]
        if kind is dict or kind is MappingProxyType:
            return sorted(_joined("item", self.of(k), self.of(v)) for k, v in value.items())
        if isinstance(value, (set, frozenset)):
            return sorted(self.of(each) for each in value)
        if isinstance(value, (torch.Tensor, np.ndarray)):
            return self._array(value)
        if isinstance(value, CodeType):
            return self._code(value)
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            return [self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, (BuiltinFunctionType, ModuleType)):
            return [self._named(value)]
        if isinstance(value, Cached):
            return [self.of(value.__wrapped__), self.of(value.cache_parameters())]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, (staticmethod, classmethod)):
            return [self.of(value.__func__)]
        if isinstance(value, property):
            return [self.of(each) for each in (value.fget, value.fset, value.fdel)]
        return self._object(value)

    def _array(self, value: torch.Tensor | np.ndarray) -> list[bytes]:
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_meta or value.is_quantized:
                raise Untellable(f"a tensor of layout {value.layout} on {value.device}")
            bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            kind = (value.dtype, tuple(value.shape), value.requires_grad)
            return [repr(kind).encode(), bits.tobytes()]
        if value.dtype.hasobject:
            return [repr(value.shape).encode(), *(self.of(each) for each in value.ravel().tolist())]
        return [repr((value.dtype.descr, value.shape)).encode(), value.tobytes()]

    def _named(self, value: Any) -> bytes:
        """What is known by its name: modules, those of one's own with their source."""
        if isinstance(value, ModuleType):
            return _joined(value.__name__, _source(value.__name__))
        owner = value.__self__
        bound = None if isinstance(owner, ModuleType) else owner
        return _joined(str(value.__module__), value.__qualname__.encode(), self.of(bound))

    def _function(self, value: FunctionType) -> list[bytes]:
        inside = [_cells(value), value.__defaults__, value.__kwdefaults__]
        if _home(value.__module__) != "here":
            name = f"{value.__module__}.{value.__qualname__}"
            own = self.of(value.__code__)  # a module may hold several of one name, as lambdas are
            return [name.encode(), _source(value.__module__), own, self.of(inside)]
        read = [_joined(name, self.leniently(each)) for name, each in _globals(value)]
        return [self.of(value.__code__), self.of(inside), *read]

    def _code(self, value: CodeType) -> list[bytes]:
        numbers = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        names = (value.co_name, value.co_names, value.co_varnames, value.co_freevars)
        rest = (value.co_cellvars, value.co_flags, value.co_exceptiontable)
        return [value.co_code, self.of((numbers, names, rest)), self.of(value.co_consts)]

    def _class(self, value: type) -> list[bytes]:
        name = f"{value.__module__}.{value.__qualname__}".encode()
        if _home(value.__module__) != "here":
            return [name, _source(value.__module__)]
        held = {n: v for n, v in vars(value).items() if n not in ADDED}
        own = [_joined(n, self.leniently(v)) for n, v in sorted(held.items())]
        return [name, *(self.of(base) for base in value.__bases__), *own]

    def _object(self, value: Any) -> list[bytes]:
        try:
            made = value.__reduce_ex__(4)
        except Exception as error:  # of whatever class, each in its own way
            raise Untellable(f"a {type(value).__name__} ({in_words(error)})") from error
        if isinstance(made, str):  # the name of a singleton
            return [made.encode()]
        call, arguments, state, listed, items = (*made, None, None, None)[:5]
        if isinstance(state, Mapping) and isinstance(value, torch.nn.Module):
            state = {k: v for k, v in state.items() if not k.endswith("_hooks")}
        return [
            self.of(type(value)),
            self.of(call),
            self.of(arguments),
            self.of(state),
            self.of([*(listed or ())]),
            self.of(dict(items or ())),
        ]


def _source(module: str | None) -> bytes:
    """The hash of a module of one's own and of what it imports from beside it."""
    if module is None or _home(module) != "local":
        return b""
    if _spec(module):
        return digest_of_plugins([module]).encode()
    return Path(str(sys.modules[module].__file__)).read_bytes()


def _cells(function: FunctionType) -> list[Any]:
    """What a function closes over; a variable that has no value yet is left out."""
    found = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            found.append(cell.cell_contents)
    return found


def _joined(kind: str, *parts: bytes) -> bytes:
    """Hash parts so that no two lists of them look alike."""
    found = hashlib.sha256(kind.encode())
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()
