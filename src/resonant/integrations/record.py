"""What was set up in a model of transformers, written into its configuration.

``model.config.resonant`` is a list of steps, each made by ``use_attention``, ``swap`` or
``add_krause_branch``; ``save_pretrained`` writes it into config.json.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..functional.neighborhood import Band, Causal, Full, Grid, Neighborhood
from ..mechanism import mechanism as find

KEY = "resonant"  # in config.json, in PEFT's adapter_config.json, and in names of weights
USED, SWAPPED, BRANCHED = "use_attention", "swap", "add_krause_branch"
MODULE = "module"
FLOAT = "__float__"  # as transformers writes a number that is infinite
KINDS: dict[str, type] = {kind.__name__: kind for kind in (Full, Causal, Band, Grid)}


def foreign_root(model: Any) -> tuple[Any, str]:
    """Find the outermost model of transformers in ``model``, and its name there ("" for itself).

    (None, "") for others.
    """
    return next(iter(foreign_roots(model)), (None, ""))


def foreign_roots(model: Any) -> list[tuple[Any, str]]:
    """Find every model of transformers that ``model`` holds and that lies in no other, by name."""
    found: list[tuple[Any, str]] = []
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        inside = any(not root or name.startswith(f"{root}.") for _, root in found)
        known = hasattr(module, "save_pretrained") and hasattr(module, "set_attn_implementation")
        if known and not inside:
            found.append((module, name))
    return found


def steps(model: Any) -> list[dict[str, Any]]:
    """List what was set up in ``model``, oldest first; nothing for models of others."""
    root, _ = foreign_root(model)
    return [] if root is None else list(getattr(root.config, KEY, None) or [])


def remember(
    model: Any, by: str, layers: Sequence[str], *, mechanism: str, options: dict[str, Any]
) -> None:
    """Write down that ``by`` gave ``layers`` of ``model`` the mechanism."""
    written = _as_json(options)
    _warn(model, by, mechanism, written)
    for root, name in foreign_roots(model):
        inside = _inside(name, layers)
        if inside:
            step = {"by": by, "mechanism": mechanism, "layers": inside, "options": written}
            setattr(root.config, KEY, [*steps(root), step])


def _warn(model: Any, by: str, mechanism: str, written: dict[str, Any]) -> None:
    """Warn of what will not come back from ``save_pretrained``."""
    modules = [name for name, x in written.items() if isinstance(x, dict) and MODULE in x]
    if modules and foreign_roots(model):
        warnings.warn(
            f"{modules[0]} is a module, which the configuration cannot hold: {by} will not come "
            "back by restore_attention; keep the model's state_dict too",
            stacklevel=4,
        )
    wrapped = any(type(module).__module__.startswith("peft.") for module in model.modules())
    learns = find(mechanism).scalars or written.get("gate") is not None
    if wrapped and learns and by != BRANCHED:
        warnings.warn(
            f"the model carries adapters, which do not keep what {mechanism} learns; set up the "
            "attention first, then make the adapter with lora_config",
            stacklevel=4,
        )


def forget(model: Any, by: str, layers: Sequence[str]) -> None:
    """Strike ``layers`` out of the last step of ``by`` that names each."""
    for root, name in foreign_roots(model):
        _strike(root, by, set(_inside(name, layers)))


def _inside(root: str, layers: Sequence[str]) -> list[str]:
    """Names of layers inside the model called ``root``, as that model calls them."""
    prefix = f"{root}." if root else ""
    return [layer.removeprefix(prefix) for layer in layers if layer.startswith(prefix)]


def _strike(root: Any, by: str, left: set[str]) -> None:
    kept = steps(root)
    for step in reversed(kept):
        if step["by"] == by:
            struck = left & set(step["layers"])
            step["layers"], left = [n for n in step["layers"] if n not in struck], left - struck
    kept = [step for step in kept if step["layers"]]
    if kept:
        setattr(root.config, KEY, kept)
    elif hasattr(root.config, KEY):
        delattr(root.config, KEY)


def check_options(options: dict[str, Any]) -> None:
    """Raise ``TypeError`` for a learned scalar that is no number: one of torch is none, either."""
    for name, value in options.items():
        if isinstance(value, torch.Tensor):
            raise TypeError(
                f"{name} is a number or a module, not a tensor; give {name}.item()"
                if value.numel() == 1
                else f"{name} is one number for all heads to start from, not {value.numel()}"
            )


def as_options(written: dict[str, Any]) -> dict[str, Any]:
    """Make options again of what ``remember`` wrote.

    Raises ``ValueError`` for a neighborhood that there is not, and for an option that was a module,
    which no configuration holds.
    """
    options = dict(written)
    for name, value in options.items():
        if isinstance(value, dict) and FLOAT in value:
            options[name] = float(value[FLOAT])
        elif isinstance(value, dict) and MODULE in value:
            raise ValueError(
                f"{name} was a module ({value[MODULE]}), which a configuration cannot hold; set up "
                "the attention as before, then load the weights by load_state_dict"
            )
    for name in ("neighborhood", "cross_neighborhood"):
        if isinstance(options.get(name), dict):
            options[name] = _neighborhood(dict(options[name]))
    return options


def _as_json(options: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in options.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple(KINDS.values())):
        return {"kind": type(value).__name__, **dataclasses.asdict(value)}
    return {MODULE: type(value).__name__} if isinstance(value, nn.Module) else value


def _neighborhood(written: dict[str, Any]) -> Neighborhood:
    kind = KINDS.get(written.pop("kind", ""))
    if kind is None:
        raise ValueError(
            f"a neighborhood is one of {', '.join(KINDS)}; the configuration says other"
        )
    return kind(**written)
