"""What was set up in a model of transformers, written into its configuration.

``model.config.resonant`` is a list of steps, each made by ``use_attention``, ``swap`` or
``add_krause_branch``; ``save_pretrained`` writes it into config.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from ..functional.neighborhood import Band, Causal, Full, Grid, Neighborhood

KEY = "resonant"  # in config.json, in PEFT's adapter_config.json, and in names of weights
USED, SWAPPED, BRANCHED = "use_attention", "swap", "add_krause_branch"
MODULE = "module"
KINDS: dict[str, type] = {kind.__name__: kind for kind in (Full, Causal, Band, Grid)}


def foreign_root(model: Any) -> tuple[Any, str]:
    """Find the outermost model of transformers in ``model``, and its name there ("" for itself).

    (None, "") for others.
    """
    if not isinstance(model, nn.Module):
        return None, ""
    for name, module in model.named_modules():
        if hasattr(module, "save_pretrained") and hasattr(module, "set_attn_implementation"):
            return module, name
    return None, ""


def steps(model: Any) -> list[dict[str, Any]]:
    """List what was set up in ``model``, oldest first; nothing for models of others."""
    root, _ = foreign_root(model)
    return [] if root is None else list(getattr(root.config, KEY, None) or [])


def remember(
    model: Any, by: str, layers: Sequence[str], *, mechanism: str, options: dict[str, Any]
) -> None:
    """Write down that ``by`` gave ``layers`` of ``model`` the mechanism."""
    root, name = foreign_root(model)
    if root is None:
        return
    prefix = f"{name}." if name else ""
    inside = [layer.removeprefix(prefix) for layer in layers]
    step = {"by": by, "mechanism": mechanism, "layers": inside, "options": _as_json(options)}
    setattr(root.config, KEY, [*steps(root), step])


def forget(model: Any, by: str, layers: Sequence[str]) -> None:
    """Strike ``layers`` out of the last step of ``by`` that names each."""
    root, name = foreign_root(model)
    if root is None:
        return
    prefix, kept = (f"{name}." if name else ""), steps(root)
    left = {layer.removeprefix(prefix) for layer in layers}
    for step in reversed(kept):
        if step["by"] == by:
            struck = left & set(step["layers"])
            step["layers"], left = [n for n in step["layers"] if n not in struck], left - struck
    kept = [step for step in kept if step["layers"]]
    if kept:
        setattr(root.config, KEY, kept)
    elif hasattr(root.config, KEY):
        delattr(root.config, KEY)


def as_options(written: dict[str, Any]) -> dict[str, Any]:
    """Make options again of what ``remember`` wrote.

    Raises ``ValueError`` for a neighborhood that there is not, and for an option that was a module,
    which no configuration holds.
    """
    options = dict(written)
    for name, value in options.items():
        if isinstance(value, dict) and MODULE in value:
            raise ValueError(
                f"{name} was a {value[MODULE]}, which a configuration cannot hold; set up the "
                "attention as before, then load the weights by load_state_dict"
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
