"""How much attention goes to the first token, layer by layer and head by head."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..diagnostics.attention import LayerRecord
from ..functional.attend import attention_weights
from ..functional.lift import Lift
from ..nn.modes import evaluating
from .attention_interface import recorded_weights, register_attention
from .branch import AttentionBranch, branches

OF = ("pretrained", "branch")


def attention_sinks(
    model: Any, *, of: str = "pretrained", **inputs: Any
) -> Float[Tensor, "layer head"]:
    """Mean weight of the first real token over later queries that see it and another one.

    For any causal model of transformers whose attention goes through its interface. ``inputs`` are
    what ``model`` is called with (``input_ids``, ``attention_mask``). ``of`` says which attention:
    "pretrained", or the "branch" of ``add_krause_branch``, whose window most queries have left the
    first token behind: those do not count.

    Raises ``ValueError`` for another word, a model without branch, and one whose attention cannot
    be seen.
    """
    return torch.stack([record.sink() for record in sink_records(model, of=of, **inputs)])


def sink_records(model: Any, *, of: str = "pretrained", **inputs: Any) -> list[LayerRecord]:
    """Weights of every layer as ``diagnostics.LayerRecord``; see ``attention_sinks``."""
    if of not in OF:
        raise ValueError(f"of is {' or '.join(OF)}; it is {of!r}")
    if of == "branch" and not branches(model):
        raise ValueError("the model has no branch; of='pretrained' looks at its own attention")
    weights = _of_branch(model, inputs) if of == "branch" else _of_pretrained(model, inputs)
    if not weights:
        raise ValueError(
            f"no attention of {type(model).__name__} goes through the interface of transformers, "
            "so that its weights cannot be seen"
        )
    mask = inputs.get("attention_mask")
    return [_record(name, each, mask) for name, each in weights.items()]


def _of_pretrained(model: Any, inputs: dict[str, Any]) -> dict[str, Tensor]:
    names = {module: name for name, module in model.named_modules()}
    before = model.config._attn_implementation
    with evaluating(model), recorded_weights() as seen:
        model.set_attn_implementation(register_attention())
        try:
            model(**inputs, use_cache=False)
        finally:
            model.set_attn_implementation(before)
    return {names[module]: weights for module, weights in seen.items()}


def _of_branch(model: Any, inputs: dict[str, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def look(name: str, branch: AttentionBranch, lift: Lift, options: dict[str, Any]) -> None:
        found[name] = attention_weights(lift, **options, top_k=branch.config.top_k)

    with evaluating(model):
        watched = branches(model)
        for name, branch in watched.items():
            branch.watch = partial(look, name, branch)  # type: ignore[method-assign]
        try:
            model(**inputs, use_cache=False)
        finally:
            for branch in watched.values():
                del branch.watch
    return found


def _record(name: str, weights: Tensor, mask: Tensor | None) -> LayerRecord:
    """A record of weights alone; what a query might have seen is read off them."""
    weights = weights.float().cpu()
    batch, _, queries, keys = weights.shape
    real = torch.ones(batch, keys, dtype=torch.bool) if mask is None else mask.bool().cpu()
    state = weights.new_zeros(batch, queries, 1)
    # Where nothing else hides a key: causality, seen in all heads and rows together.
    sees = (weights > 0).flatten(0, 1).any(0, keepdim=True)
    return LayerRecord(name, state, weights, sees, real, real, None)
