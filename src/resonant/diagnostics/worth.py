"""What attention is worth to a model: how much worse it is without a layer or a head."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..nn import KuramotoAttention
from ..nn.modes import evaluating
from .attention import attention_layers


@dataclass(frozen=True)
class LayerWorth:
    """One attention layer: what the loss rises by without it, and without each head of it.

    ``heads`` is empty where heads cannot be told apart.
    """

    name: str
    worth: float
    heads: tuple[float, ...]


@dataclass(frozen=True)
class Worth:
    """The loss of a whole model, and what each attention layer is worth of it."""

    loss: float
    layers: tuple[LayerWorth, ...]


def attention_worth(
    model: nn.Module, loss: Callable[[], float | Tensor], *, heads: bool = True
) -> Worth:
    """Measure what ``loss()`` rises by without each attention layer of ``model``, and each head.

    ``loss`` computes a number of the model as it is then: call the model in it. Without a layer its
    block adds nothing in the place of attention; without a head the others are as they were; phases
    stay where coupling is taken away. A negative worth: the model is better without. The model is
    in evaluation meanwhile, without gradients. Layers as ``record_attention`` finds them.

    Raises ``ValueError`` for a model without attention, and for a loss that is no finite number.

    Source: ablation, as Michel et al. (arXiv 1905.10650, section 3) take heads away.
    """
    layers = dict(attention_layers(model))
    if not layers:
        raise ValueError(
            "the model has no attention that could be taken away: neither modules of resonant.nn "
            "nor nn.MultiheadAttention"
        )
    with evaluating(model), torch.no_grad():
        whole = _number(loss)
        found = []
        for name, layer in layers.items():
            with without_attention(layer):
                worth = _number(loss) - whole
            each = []
            for head in range(_heads(layer) if heads else 0):
                with without_attention(layer, head):
                    each.append(_number(loss) - whole)
            found.append(LayerWorth(name, worth, tuple(each)))
    return Worth(whole, tuple(found))


@contextmanager
def without_attention(layer: nn.Module, head: int | None = None) -> Iterator[None]:
    """Inside the block, ``layer`` adds nothing; with ``head``, that head of it adds nothing.

    Raises ``ValueError`` for a head that there is not.
    """
    if head is None:
        handle = layer.register_forward_hook(_nothing, with_kwargs=True)
    elif not isinstance(head, int) or not 0 <= head < _heads(layer):
        raise ValueError(
            f"{type(layer).__name__} has {_heads(layer)} heads that can be taken away; not {head}"
        )
    elif isinstance(layer, KuramotoAttention):

        def keep(layer: Any, inputs: tuple, given: dict[str, Any], output: Any) -> Any:
            before, after = layer.split(_query(inputs, given)), layer.split(output[0]).clone()
            after[:, :, head] = before[:, :, head]
            return layer.join(after), output[1]

        handle = layer.register_forward_hook(keep, with_kwargs=True)
    else:
        count = _heads(layer)

        def cut(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            parts = inputs[0].unflatten(-1, (count, -1)).clone()
            parts[..., head, :] = 0.0
            return (parts.flatten(-2),)

        handle = layer.out_proj.register_forward_pre_hook(cut)  # type: ignore[union-attr]
    try:
        yield
    finally:
        handle.remove()


def _heads(layer: nn.Module) -> int:
    """How many heads can be taken away one by one."""
    if isinstance(layer, nn.MultiheadAttention):  # its projection is no call that could be met
        return 0
    known = isinstance(layer, KuramotoAttention) or hasattr(layer, "out_proj")
    return int(layer.num_heads) if known else 0  # type: ignore[arg-type]


def _nothing(layer: nn.Module, inputs: tuple, given: dict[str, Any], output: Any) -> Any:
    """Zeros; of phases, those that came in."""
    made = output[0] if isinstance(output, tuple) else output
    if isinstance(layer, KuramotoAttention):
        made = _query(inputs, given).to(made.dtype)
    else:
        made = torch.zeros_like(made)
    return (made, *output[1:]) if isinstance(output, tuple) else made


def _query(inputs: tuple, given: dict[str, Any]) -> Tensor:
    return inputs[0] if inputs else given["query"]


def _number(loss: Callable[[], float | Tensor]) -> float:
    found = float(loss())
    if not math.isfinite(found):
        raise ValueError(f"the loss is no finite number but {found}, so nothing can be compared")
    return found
