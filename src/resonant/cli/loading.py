"""Models and comparisons by the names that a command line gives them."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError, in_words, nearest


def load_subject(name: str, *, several: bool = False) -> tuple[Any, Any]:
    """Open the model that a folder, module:name, file.py:name or "smollm2" names, and its inputs.

    With ``several`` inputs may be a tuple or a dict of arguments, else they are one tensor.

    Raises ``UserError`` for what is none of these.
    """
    from ..integrations.smollm2 import folder_of

    folder = folder_of(name)
    if folder.is_dir():
        return _opened(str(folder))
    return _build(load_named(name), name, several=several)


def load_named(name: str) -> Any:
    """What stands in a module under a name: package.module:name, or file.py:name.

    Raises ``UserError`` for a module that cannot be imported, and a name that it has not.
    """
    where, _, attribute = name.rpartition(":")
    if not where:
        raise UserError(
            f"{name!r} names no model; give package.module:name, file.py:name or a folder"
        )
    module = _module(where)
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise UserError(f"{where} has no {attribute!r}; {nearest(attribute, public)}")
    return getattr(module, attribute)


def _opened(name: str) -> tuple[Any, Any]:
    """The model in a folder, with inputs where a run of one's own has any."""
    from ..integrations.opening import is_foreign, open_causal
    from ..lab.domains import open_own
    from ..models.architectures import load_model
    from ..models.base import CausalModel

    if is_foreign(Path(name)):
        model = open_causal(name)[0]
        # PEFT's shell names no arguments; what it wraps has the adapters in it.
        return (model.get_base_model() if hasattr(model, "peft_config") else model), None
    try:
        own = open_own(Path(name))
        if own is not None:
            return own
        model = load_model(name)
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    if not isinstance(model, CausalModel):
        raise UserError(
            f"{name} holds a model of architecture {model.config.architecture!r}, which is not "
            "causal by design; checks are for models of tokens and of pixels"
        )
    return model, None


def _module(where: str) -> Any:
    try:
        if not where.endswith(".py"):
            if os.getcwd() not in sys.path:
                sys.path.append(os.getcwd())
            return importlib.import_module(where)
        if not Path(where).is_file():
            raise UserError(f"there is no file {where}")
        return _of_file(Path(where))
    except ImportError as error:
        raise UserError(
            f"cannot import {where!r} ({error}); run from the folder that holds it, or install it"
        ) from error
    except UserError:
        raise
    except Exception as error:  # a stranger's module may raise anything
        raise UserError(f"importing {where!r} raises {in_words(error)}") from error


def _of_file(path: Path) -> Any:
    """Import a file by its name, as a process that finds it beside the script would."""
    from ..lab.kit.plugins import is_installed

    if not path.stem.isidentifier():
        raise UserError(
            f"{path} cannot be imported by its name, which is of letters, digits and _ alone; "
            "rename the file"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    taken = sys.modules.get(spec.name)
    file = getattr(taken, "__file__", None)
    if taken is not None and (file is None or is_installed(Path(file).resolve())):
        raise UserError(
            f"{path} has the name of a module of Python or of a package, {spec.name}, which it "
            "would hide; rename the file"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _build(made: Any, name: str, *, several: bool) -> tuple[Any, Any]:
    from torch import Tensor, nn

    if not isinstance(made, nn.Module):
        if not callable(made):
            raise UserError(f"{name} is a {type(made).__name__}, neither a model nor a function")
        try:
            inspect.signature(made).bind()
        except TypeError as error:
            raise UserError(
                f"{name} cannot be called without arguments ({error}); write a function that "
                "returns the model"
            ) from error
        try:
            made = made()
        except Exception as error:  # a stranger's factory may raise anything
            raise UserError(f"building {name} raises {in_words(error)}") from error
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    kinds = (Tensor, tuple, dict) if several else (Tensor,)
    if not callable(model) or not (inputs is None or isinstance(inputs, kinds)):
        what = type(made).__name__ if inputs is None else f"inputs of type {type(inputs).__name__}"
        more = ", a tuple or a dict of arguments" if several else ""
        raise UserError(
            f"{name} gives {what}; return a model, or (model, inputs) with a tensor{more}"
        )
    return model, inputs
