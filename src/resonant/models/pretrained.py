"""Models on disk: a typed configuration as JSON beside weights as safetensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ..files import MODEL_CONFIG, WEIGHTS, write_atomically
from ..nn.modes import is_swapped
from .fields import from_dict
from .weights import load_weights, save_weights

M = TypeVar("M", bound=nn.Module)


def _refuse_swapped(model: nn.Module) -> None:
    swapped = [name for name, module in model.named_modules() if is_swapped(module)]
    if swapped:
        raise ValueError(
            f"{swapped[0]} was swapped, which the configuration does not say; use resonant.unswap "
            "first, or save model.state_dict()"
        )


def save_pretrained(model: nn.Module, config: Any, directory: str | Path) -> None:
    """Write ``config.json`` and ``model.safetensors`` into ``directory``, made if missing.

    Raises ``ValueError`` for a model in which modules are swapped.
    """
    _refuse_swapped(model)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    content = json.dumps(dataclasses.asdict(config), indent=2) + "\n"
    write_atomically(directory / MODEL_CONFIG, content.encode(), "model-config")
    save_weights(directory / WEIGHTS, model.state_dict(), "model")


def load_pretrained(kind: type[M], config_type: type, directory: str | Path) -> M:
    """Build ``kind`` from ``config.json`` and fill it from ``model.safetensors``.

    Raises ``FileNotFoundError`` for a missing file, ``ValueError`` for another architecture, an
    unknown field, damaged weights or weights that do not fit.
    """
    directory = Path(directory)
    for name in (MODEL_CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"{directory} holds no {name}; give a folder written by save_pretrained"
            )
    described = read_description(directory / MODEL_CONFIG)
    architecture, wanted = described.get("architecture"), config_type().architecture
    if architecture != wanted:
        raise ValueError(
            f"{directory} holds a model of architecture {architecture!r}, not {wanted!r} "
            f"(as its {MODEL_CONFIG} says); "
            "give a folder of that kind (resonant.load_model opens any)"
        )
    try:
        model = kind(from_dict(config_type, described))
    except (TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"{directory / MODEL_CONFIG} describes no model ({error}); save the model again, or "
            "open it with the version that wrote it"
        ) from error
    weights = load_weights(directory / WEIGHTS)
    missing = sorted(set(model.state_dict()) ^ set(weights))
    if missing:
        raise ValueError(
            f"the weights in {directory} do not fit its {MODEL_CONFIG} (first: {missing[0]})"
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise ValueError(
            f"the weights in {directory} do not fit its {MODEL_CONFIG} ({first})"
        ) from error
    return model


def read_description(path: Path) -> dict[str, Any]:
    """Read the configuration of a model, as plain values.

    Raises ``ValueError`` for a file that holds none.
    """
    try:
        described = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); save the model again") from error
    if not isinstance(described, dict):
        raise ValueError(f"{path} is damaged (it holds no named values); save the model again")
    return described
