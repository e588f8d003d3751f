"""Problems and arms where runs need them: sent along by whoever compares, or imported."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ...errors import UserError, in_words
from ...files import WEIGHTS, damaged
from ...models.fields import from_dict
from ..kit.code.identity import digest, home_of
from ..kit.code.registered import registered_code
from ..kit.code.sent import importable, packed, unpacked
from ..kit.config import RunConfig
from .config import ArmConfig, ProblemConfig
from .problem import Problem

# Problems that this process was sent, packed with their arms by name, by the hash of their code.
_sent: dict[str, str] = {}


def carry(problem: Problem, arms: Mapping[str, Any]) -> str:
    """Pack a problem and its arms for ``receive``: of scripts and notebooks the code too.

    Raises ``UserError`` for what cannot be sent.
    """
    sent = packed((problem, dict(arms)), "the problem or an arm")
    return json.dumps({"code": code_of(problem), "packed": sent})


def receive(carried: str) -> None:
    """Take up what ``carry`` packed."""
    said = json.loads(carried)
    _sent[said["code"]] = said["packed"]


def code_of(problem: Problem) -> str:
    """The hash of a problem: of its class, what that stands on, and what it holds."""
    kind = type(problem)
    held = {
        name: value
        for name, value in vars(problem).items()
        if name != "training" and not isinstance(getattr(kind, name, None), cached_property)
    }
    return digest((kind, held, registered_code()), home_of(problem))


def problem_config(problem: Problem) -> ProblemConfig:
    """A problem as the data of a run."""
    kind = type(problem)
    fields = {
        each.name: getattr(problem, each.name)
        for each in dataclasses.fields(problem)
        if each.name != "training"
    }
    return ProblemConfig(
        made_by=importable(kind) or _in_script(kind),
        fields=_fields_as_json(kind, fields) or _as_json(fields, kind.__module__),
        code=code_of(problem),
    )


def _in_script(kind: type) -> str:
    """Name a class as a module with the script's file would have it; else by its name alone."""
    main = sys.modules["__main__"]
    path = Path(getattr(main, "__file__", None) or "")
    if kind.__module__ != "__main__" or "<" in kind.__qualname__ or path.suffix != ".py":
        return kind.__qualname__
    spec = getattr(main, "__spec__", None)  # of python -m
    return f"{path.stem if spec is None else spec.name}:{kind.__qualname__}"


def arm_config(value: Any, home: str | None) -> ArmConfig:
    """An arm as the model of a run, for a problem whose code is in the module ``home``."""
    return ArmConfig(_as_json(value, home))


def _fields_as_json(kind: type, fields: Mapping[str, Any]) -> str:
    """Fields as JSON, if they read back the same: tuples and dataclasses too; else ""."""
    try:
        plain = {
            name: dataclasses.asdict(value)
            if dataclasses.is_dataclass(value) and not isinstance(value, type)
            else value
            for name, value in fields.items()
        }
        text = json.dumps(plain, sort_keys=True, allow_nan=False)
        read = from_dict(kind, json.loads(text))
        same = all(_same(getattr(read, name), value) for name, value in fields.items())
    except Exception:  # of whatever class: fields of one's own check themselves
        return ""
    return text if same else ""


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _as_json(value: Any, here: str | None) -> str:
    """A plain value as JSON, which reads back the same; anything else as its name and hash."""
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
        if _same(json.loads(text), value):
            return text
    except (TypeError, ValueError):
        pass
    name = getattr(value, "__qualname__", type(value).__name__)
    return f"{name} {digest(value, here)[:16]}"


def made_for(config: RunConfig) -> tuple[Problem, Any]:
    """The problem of a run, and the value of its arm: fresh, as a run may change both.

    Raises ``UserError`` for one that this process was not sent and cannot make.
    """
    data, model = config.data, config.model
    assert isinstance(data, ProblemConfig)
    assert isinstance(model, ArmConfig)
    if data.code in _sent:
        problem, arms = unpacked(_sent[data.code])
        return problem, arms[config.arm]
    return _made(config, data, model)


def _made(config: RunConfig, data: ProblemConfig, model: ArmConfig) -> tuple[Problem, Any]:
    """The problem from its class, which must have been imported, and plain values."""
    module, colon, name = data.made_by.partition(":")
    try:
        fields, value = json.loads(data.fields), json.loads(model.value)
    except ValueError as error:
        raise UserError(
            f"{config.name} was made of values that are kept by their hash alone; open it where "
            "they are: resonant.compare(...).model(arm, seed)"
        ) from error
    if not colon:
        raise UserError(
            f"{config.name} was made by the class {name or module!r} of a script or a notebook; "
            "open it there: resonant.compare(...).model(arm, seed)"
        )
    if module not in sys.modules:
        raise UserError(
            f"{config.name} was made by {data.made_by}, which is code; look at it, then pass "
            f"--plugins {module}"
        )
    with calling(config.name):
        kind = resolve_name(data.made_by)
        problem = from_dict(kind, {**fields, "training": config.training})
    if code_of(problem) != data.code:
        raise UserError(
            f"{data.made_by} changed since {config.name} was trained; go back to what it was, or "
            "train anew"
        )
    return problem, value


def build(problem: Problem, arm: Any, config: RunConfig) -> nn.Module:
    """The model of an arm, started by the run's seed.

    Raises ``UserError`` for a ``model`` that raises or makes no module.
    """
    torch.manual_seed(config.seed)
    with calling(config.name):
        model = problem.model(arm)
    if not isinstance(model, nn.Module):
        raise UserError(
            f"{type(problem).__name__}.model(arm) returns a {type(model).__name__}; return the "
            "torch module"
        )
    if any(is_lazy(each) for each in model.parameters()):
        raise UserError(
            f"{type(problem).__name__}.model(arm) has lazy layers, whose parameters have no shape "
            "yet; call the model once on a batch before you return it"
        )
    return model


def open_run(directory: Path, config: RunConfig) -> tuple[nn.Module, Tensor]:
    """A trained model of a problem, and what it is called with on a validation batch."""
    problem, arm = made_for(config)
    model = open_weights(build(problem, arm, config), directory)
    with calling(config.name):
        inputs = problem.inputs(problem.batch("valid", 0, 0))
    return model, inputs


def open_weights(model: nn.Module, directory: Path) -> nn.Module:
    """The model with the weights that a run left in ``directory``, in evaluation."""
    path = directory / WEIGHTS
    try:
        load_model(model, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise damaged(path, in_words(error)) from error
    return model.eval()


@contextmanager
def calling(run: str) -> Iterator[None]:
    """Say errors of a problem's own methods, called inside the block, in a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # code of one's own may raise anything
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = ""
        if trace is not None:
            where = f" at {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
        raise UserError(f"{run} raises {in_words(error)}{where}") from error
