"""The first layer in which two runs of a model part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .calls import tensors_in


@dataclass(frozen=True)
class Event:
    """Tensors that entered ("in") or left ("out") a module; ``within`` is the one around it."""

    kind: str
    name: str
    within: str
    tensors: list[Tensor]


def record(model: Any, run: Callable[[], Any]) -> list[Event]:
    """What enters and leaves the modules of ``model`` while ``run`` calls it, in order."""
    if not isinstance(model, nn.Module):
        run()
        return []
    events: list[Event] = []
    opened: list[str] = []
    handles = []

    def entering(name: str) -> Callable[..., None]:
        def hook(_: Any, arguments: Any, options: Any) -> None:
            found = tensors_in(arguments) + tensors_in(options)
            events.append(Event("in", name, opened[-1] if opened else "", _copies(found)))
            opened.append(name)

        return hook

    def leaving(name: str) -> Callable[..., None]:
        def hook(_: Any, arguments: Any, output: Any) -> None:
            del arguments
            opened.pop()
            within = opened[-1] if opened else ""
            events.append(Event("out", name, within, _copies(tensors_in(output))))

        return hook

    try:
        for name, module in model.named_modules():
            pre = module.register_forward_pre_hook(entering(name), with_kwargs=True)
            handles += [pre, module.register_forward_hook(leaving(name))]
        run()
    finally:
        for handle in handles:
            handle.remove()
    return events


def first_parting(
    ours: list[Event], theirs: list[Event], differ: Callable[[Tensor, Tensor], bool]
) -> str | None:
    """Where the two runs first differ, in words, or None.

    A module whose output differs though nothing before did is the culprit; where a module's input
    is the first to differ, it is the code around that module.
    """
    for one, other in zip(ours, theirs, strict=False):
        if (one.kind, one.name) != (other.kind, other.name):
            return None  # the two runs took different ways
        pairs = zip(one.tensors, other.tensors, strict=False)
        if any(differ(a, b) for a, b in pairs):
            if one.kind == "out":
                return one.name or "the model itself"
            around = one.within or "the model itself"
            return f"{around}, before its {one.name.rpartition('.')[2]}" if one.name else None
    return None


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]
