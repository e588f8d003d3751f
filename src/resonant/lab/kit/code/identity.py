"""Values and functions of one's own, hashed by what they are."""

from __future__ import annotations

import contextlib
import dis
import hashlib
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
    UnionType,
)
from typing import Any

import numpy as np
import torch

from ....errors import UserError, in_words
from ..plugins import digest_of_plugins, is_installed, is_local, is_ours

Cached = type(lru_cache(len))  # what functools.cache makes of a function
PLAIN = (type(None), bool, int, float, complex, str, bytes)
# Of a class: what Python adds itself.
ADDED = {"__dict__", "__weakref__", "__module__", "__doc__", "__slotnames__"}
ADDED |= {"__abstractmethods__", "_abc_impl"}


class Untellable(ValueError):
    """A value that has no content to hash, such as an open file or a lock."""


def digest(value: Any, here: str | None = None) -> str:
    """Hash a value by its content, functions and classes by their code.

    Arrays and tensors count by their numbers; objects by their class and state; what an installed
    package holds by its name; modules of one's own by their source, by what they import that is not
    installed, and by the settings that are read; code of a script's ``__main__``, of a notebook and
    of the module ``here`` by its bytecode and the globals that it reads, so that comments, lines
    and what is not read do not count.

    Raises ``Untellable`` for a value that has no content to hash, ``UserError`` for a module whose
    file is no longer what was imported.
    """
    return _Digest(here).of(value).hex()


def parts(function: Any) -> dict[str, str]:
    """Hash a function and, under their names, the globals that it reads itself."""
    inner = function.func if isinstance(function, partial) else function
    if not isinstance(inner, FunctionType):
        return {"code": digest(function, home_of(function))}
    given = (function.args, function.keywords) if isinstance(function, partial) else ()
    known = _Digest(home_of(inner))
    found = {"code": known.of((inner.__code__, *known.beside(inner))).hex()}
    found |= {"arguments": known.of(given).hex()} if given else {}
    for name, value, _ in _read(inner):
        found[f"global {name}"] = known.leniently(value).hex()
    return found


def home_of(value: Any) -> str | None:
    """Name the module that holds a function, or an object's class."""
    inner = value.func if isinstance(value, partial) else value
    inner = inner.__func__ if isinstance(inner, MethodType) else inner
    kind = inner if isinstance(inner, (FunctionType, type)) else type(inner)
    return kind.__module__


def needed(value: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Modules of one's own that a value stands on, and settings that are read, by their hashes.

    Settings are values of modules, as "module:name".
    """
    found = _Digest(collect=True)
    found.leniently(value)
    return {name: digest_of_plugins([name]) for name in sorted(found.modules)}, found.settings


def digest_leniently(value: Any) -> str:
    """Hash a value as settings are hashed: what in it has no content counts by its type."""
    return _Digest().leniently(value).hex()


def _globals(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Global values that a function reads, builtins left out."""
    for name in sorted(_names(function.__code__, "LOAD_GLOBAL", "LOAD_NAME")):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _read(function: FunctionType) -> Iterator[tuple[str, Any, str]]:
    """What a function reads from outside: globals, of modules what it takes out, its imports.

    With each the "module:name" where a module of one's own has it, or "".
    """
    taken = _names(function.__code__, "LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM", "IMPORT_NAME")
    home = str(function.__globals__.get("__name__"))
    own = home != "__main__" and is_local(home)
    for name, value in _globals(function):
        yield name, value, f"{home}:{name}" if own else ""
        if isinstance(value, ModuleType):
            yield from _taken(value, taken, name)
    for name in sorted(_names(function.__code__, "IMPORT_NAME")):
        for each in (name, *(f"{name}.{inner}" for inner in sorted(taken))):
            if is_local(each):  # imported when the function is called, perhaps not yet
                yield each, _ByName(each), ""


def _taken(module: ModuleType, names: set[str], said: str) -> Iterator[tuple[str, Any, str]]:
    """What code takes out of a module of one's own, and of modules inside it."""
    if not is_local(module.__name__):
        return
    for name in sorted(names & vars(module).keys()):
        value = vars(module)[name]
        yield f"{said}.{name}", value, f"{module.__name__}:{name}"
        if isinstance(value, ModuleType) and value.__name__.startswith(f"{module.__name__}."):
            yield from _taken(value, names, f"{said}.{name}")


def _names(code: CodeType, *operations: str) -> set[str]:
    found = {each.argval for each in dis.get_instructions(code) if each.opname in operations}
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found |= _names(each, *operations)
    return found


def _file_of(module: ModuleType) -> Path | None:
    """The file of a module of one's own; None for what is installed or has no file."""
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py") or is_ours(module.__name__):
        return None
    path = Path(file).resolve()
    return None if is_installed(path) else path


class _ByName(str):
    """A module that counts by its source, whether it is imported or not."""


class _Digest:
    """The hashes of one call: each object once, cycles by the order in which they were met.

    ``modules`` are those of one's own that were met, ``settings`` the values that their functions
    read, as "module:name", by their hashes.
    """

    def __init__(self, here: str | None = None, *, collect: bool = False) -> None:
        self.here, self.collect = here, collect
        self.known: dict[int, bytes] = {}
        self.kept: list[Any] = []  # so that no id is used again
        self.modules: set[str] = set()
        self.settings: dict[str, str] = {}
        self._lenient = False

    def of(self, value: Any) -> bytes:
        if type(value) in PLAIN:
            return _joined(type(value).__name__, repr(value).encode())
        key = id(value)
        if key not in self.known:
            self.kept.append(value)
            self.known[key] = _joined("again", len(self.known).to_bytes(8, "big"))
            try:
                found = _joined(type(value).__qualname__, *self._parts(value))
            except Untellable:
                if not self._lenient:
                    raise
                found = _joined("untellable", type(value).__qualname__.encode())
            self.known[key] = found
        return self.known[key]

    def leniently(self, value: Any) -> bytes:
        """A global may be anything: what in it has no content to hash counts by its type."""
        before, self._lenient = self._lenient, True
        try:
            return self.of(value)
        finally:
            self._lenient = before

    def beside(self, function: FunctionType) -> list[Any]:
        """What a function holds beside its code: closure, defaults, attributes."""
        held = [_cells(function), function.__defaults__, function.__kwdefaults__]
        return [*held, vars(function)] if vars(function) else held

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
        if isinstance(value, _ByName):
            return [self._source(value)]
        if isinstance(value, Cached):
            return [self.of(value.__wrapped__), self.of(value.cache_parameters())]
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, (staticmethod, classmethod)):
            return [self.of(value.__func__)]
        if isinstance(value, UnionType):
            return [self.of(each) for each in value.__args__]
        if isinstance(value, property):
            return [self.of(each) for each in (value.fget, value.fset, value.fdel)]
        return self._object(value)

    def _array(self, value: Any) -> list[bytes]:
        if isinstance(value, torch.Tensor):
            if value.device.type == "meta" or value.layout != torch.strided:
                raise Untellable(f"a tensor ({value.device.type}, {value.layout})")
            said = (str(value.dtype), tuple(value.shape), value.requires_grad)
            plain = value.detach().cpu().resolve_conj().resolve_neg().contiguous()
            return [repr(said).encode(), plain.reshape(-1).view(torch.uint8).numpy().tobytes()]
        if value.dtype.hasobject:
            return [repr(value.shape).encode(), *(self.of(each) for each in value.ravel().tolist())]
        return [repr((value.dtype.descr, value.shape)).encode(), value.tobytes()]

    def _named(self, value: Any) -> bytes:
        """What is known by its name: modules, those of one's own with their source."""
        if isinstance(value, ModuleType):
            return _joined(value.__name__, self._source(value.__name__))
        owner = value.__self__
        bound = None if isinstance(owner, ModuleType) else owner
        return _joined(str(value.__module__), value.__qualname__.encode(), self.of(bound))

    def _home(self, module: str | None, names: Mapping[str, Any] | None) -> str:
        """Say where code is: "installed", "local" (a module of one's own) or "here".

        ``names`` are the globals that it has, if they are known.
        """
        found = sys.modules.get(module or "__main__")
        other = names is not None and (found is None or vars(found) is not names)
        if module in (None, "__main__", self.here) or found is None or other:
            file = "" if names is None else str(names.get("__file__") or "")
            return "installed" if other and file and is_installed(Path(file)) else "here"
        if getattr(found, "__file__", None) is None:  # compiled into Python
            return "installed" if getattr(found, "__spec__", None) is not None else "here"
        return "installed" if _file_of(found) is None else "local"

    def _function(self, value: FunctionType) -> list[bytes]:
        names = value.__globals__
        module = str(names.get("__name__"))
        home = self._home(module, names)
        if home == "here":
            return [self.of(value.__code__), self.of(self.beside(value)), *self._outside(value)]
        name = f"{module}.{value.__code__.co_qualname}"  # of a decorator's, not what it wraps
        own = self.of(value.__code__)  # a module may hold several of one name, as lambdas are
        found = [name.encode(), own, self.leniently(self.beside(value)[:3])]
        if home == "local":
            attributes = [self.leniently(vars(value))] if vars(value) else []
            found += [self._source(module), *attributes, *self._outside(value)]
            _check_imported(sys.modules[module], value.__code__, own)
        return found

    def _outside(self, function: FunctionType) -> list[bytes]:
        """What a function reads from outside; values of modules of one's own may have been set."""
        found = []
        for name, value, where in _read(function):
            found.append(_joined(name, self.leniently(value)))
            if self.collect and where and not isinstance(value, ModuleType):
                self.settings[where] = digest_leniently(value)
        return found

    def _source(self, module: str | None) -> bytes:
        """The hash of a module of one's own and of what it imports that is not installed."""
        if module is None or not is_local(module):
            return b""
        self.modules.add(str(module))
        return digest_of_plugins([module]).encode()

    def _code(self, value: CodeType) -> list[bytes]:
        numbers = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        names = (value.co_name, value.co_names, value.co_varnames, value.co_freevars)
        rest = (value.co_cellvars, value.co_flags, value.co_exceptiontable)
        return [value.co_code, self.of((numbers, names, rest)), self.of(value.co_consts)]

    def _class(self, value: type) -> list[bytes]:
        home = self._home(value.__module__, None)
        if home != "here" and not _is_found(value):  # made in a function
            home = "here"
        if home == "installed":
            return [f"{value.__module__}.{value.__qualname__}".encode()]
        held = {n: v for n, v in vars(value).items() if n not in ADDED}
        if home == "local":
            held["source"] = self._source(value.__module__).decode()
        own = [_joined(n, self.leniently(v)) for n, v in sorted(held.items())]
        return [value.__qualname__.encode(), *(self.of(base) for base in value.__bases__), *own]

    def _object(self, value: Any) -> list[bytes]:
        try:
            made = value.__reduce_ex__(4)
        except Exception as error:  # of whatever class, each in its own way
            raise Untellable(f"a {type(value).__name__} ({in_words(error)})") from error
        if isinstance(made, str):  # the name of a singleton
            return [made.encode()]
        call, arguments, state, listed, items = (*made, None, None, None)[:5]
        if isinstance(state, Mapping) and isinstance(value, torch.nn.Module):
            # Hooks stand under numbers that are counted up in each process.
            state = {
                k: [*v.values()] if k.endswith("_hooks") and v else v for k, v in state.items()
            }
        return [
            self.of(type(value)),
            self.of(call),
            self.of(arguments),
            self.of(state),
            self.of([*(listed or ())]),
            self.of(dict(items or ())),
        ]


def _is_found(value: type) -> bool:
    """Tell whether a class is what its module has under its name."""
    found: Any = sys.modules.get(value.__module__)
    for each in value.__qualname__.split("."):
        found = getattr(found, each, None)
    return found is value


def _check_imported(module: ModuleType, code: CodeType, own: bytes) -> None:
    """Raise ``UserError`` if a function is not what its module's file holds now."""
    path = _file_of(module)
    plain = type(getattr(module.__spec__, "loader", None)) is SourceFileLoader
    if path is None or not plain or Path(code.co_filename).resolve() != path:
        return  # compiled otherwise, as tests are, or made by other code
    if own not in _codes_in(path.read_bytes(), str(path)):
        raise UserError(
            f"{path} changed since {module.__name__} was imported, so that the code at work is not "
            "what the file says; start Python anew, or importlib.reload the module"
        )


@lru_cache(maxsize=64)
def _codes_in(content: bytes, path: str) -> frozenset[bytes]:
    """The hashes of all code in a file as it stands; of none where it cannot be compiled."""
    try:
        waiting = [compile(content, path, "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return frozenset()
    found = set()
    while waiting:
        code = waiting.pop()
        found.add(_Digest().of(code))
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
    return frozenset(found)


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
