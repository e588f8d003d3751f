"""Where the layers of a language model of transformers look, first of all at the first token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..diagnostics.attention import AttentionRecord, LayerRecord
from ..functional.attend import attention_weights
from ..functional.lift import Lift
from ..nn.modes import evaluating
from .attention_interface import (
    implementations,
    recorded_norms,
    recorded_weights,
    register_attention,
)
from .branch import AttentionBranch, branches

OF = ("pretrained", "branch")
SINK = 0.3  # mean weight of the first token above which a head is called a sink


def attention_sinks(
    model: Any, *, of: str = "pretrained", **inputs: Any
) -> Float[Tensor, "layer head"]:
    """Mean weight of the first real token over later queries that see it and another one.

    For any causal model of transformers whose attention goes through its interface. ``inputs`` are
    what ``model`` is called with (``input_ids``, ``attention_mask``). ``of`` says which attention:
    "pretrained", or the "branch" of ``add_krause_branch``, where queries whose window does not
    reach the first token do not count.

    Raises ``ValueError`` for another word, a model without branch, and one whose attention cannot
    be seen.
    """
    record = record_transformer(model, of=of, **inputs)
    return torch.stack([layer.sink() for layer in record.layers])


@dataclass(frozen=True)
class Sinks:
    """What the first token is to a model, by its layers, in the mean over rows of tokens.

    ``weight`` (layer, head) is the mean weight that later queries give it and ``by_query`` (layer,
    query) that of each query over heads; ``uniform`` (query) is what attention that looks
    everywhere alike would give. ``key_norm`` and ``value_norm`` (layer) are the length of its key
    and value, in mean lengths of the others'.
    """

    weight: Float[Tensor, "layer head"]
    by_query: Float[Tensor, "layer query"]
    uniform: Float[Tensor, "query"]
    key_norm: Float[Tensor, "layer"]
    value_norm: Float[Tensor, "layer"]

    @property
    def share(self) -> float:
        """The share of heads that give the first token more than 0.3 of their weight."""
        return float((self.weight > SINK).float().mean())


@torch.no_grad()
def measure_sinks(model: Any, input_ids: Int[Tensor, "row token"]) -> Sinks:
    """Measure how the attention of a causal model of transformers treats the first token.

    Rows are read one by one, whole. Raises ``ValueError`` for rows of one token, and a model whose
    attention cannot be seen.

    Source: a head whose mean weight of the first token is above 0.3 is a sink, Gu et al. (arXiv
    2410.10781), section 3.1; the reference beside it is ours.
    """
    if input_ids.shape[1] < 2:
        raise ValueError("rows of one token have no later query; give longer ones")
    found: list[list[tuple[Tensor, ...]]] = []
    with evaluating(model), _through_interface(model):
        for row in input_ids:
            with recorded_norms() as norms, recorded_weights(_of_first) as weights:
                model(input_ids=row[None], use_cache=False)
            if not weights:
                raise ValueError(
                    f"no attention of {type(model).__name__} goes through the interface of "
                    "transformers, so that its weights cannot be seen"
                )
            found.append([_first(weights[m], norms[m]) for m in weights])
    layers = [[torch.stack(x).mean(0) for x in zip(*each, strict=True)] for each in zip(*found)]  # noqa: B905
    by_head, keys, values = (torch.stack(x) for x in zip(*layers, strict=True))
    uniform = 1.0 / torch.arange(2, input_ids.shape[1] + 1)
    return Sinks(by_head.mean(-1), by_head.mean(1), uniform, keys, values)


def _first(weights: Tensor, norms: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The first token's weight (head, later query), and its norms beside the others' mean."""
    key, value = (x.float().cpu()[0].mean(0) for x in norms)
    lengths = (x[0] / x[1:].mean() for x in (key, value))
    return weights, *lengths  # type: ignore[return-value]


def _of_first(weights: Tensor) -> Tensor:
    """The first token's weight (head, later query), of the first row."""
    return weights[0, :, 1:, 0].float().cpu().clone()


def record_transformer(model: Any, *, of: str = "pretrained", **inputs: Any) -> AttentionRecord:
    """``diagnostics.record_attention`` for a causal model of transformers; see ``attention_sinks``.

    What a query might have seen is read off the weights of all heads and rows together. Modules
    that ``resonant.swap`` put there are told too.
    """
    if of not in OF:
        raise ValueError(f"of is {' or '.join(OF)}; it is {of!r}")
    if of == "branch" and not branches(model):
        raise ValueError("the model has no branch; of='pretrained' looks at its own attention")
    watch = _branches_watched if of == "branch" else _pretrained_watched
    states: dict[str, Tensor] = {}
    with evaluating(model), watch(model) as seen, _states_kept(model, states):
        model(**inputs | {"use_cache": False})
    if not seen:
        raise ValueError(
            f"no attention of {type(model).__name__} goes through the interface of transformers, "
            "so that its weights cannot be seen"
        )
    mask = inputs.get("attention_mask")
    layers = (_record(name, weights, states[name], mask) for name, weights in seen.items())
    return AttentionRecord(tuple(layers))


@contextmanager
def _through_interface(model: Any) -> Iterator[None]:
    """Inside the block the model attends through our interface, as it did before otherwise."""
    before = implementations(model)
    model.set_attn_implementation(register_attention())
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _pretrained_watched(model: Any) -> Iterator[dict[str, Tensor]]:
    """Weights by the attention's name, collected while it attends through our interface."""
    names, seen = {module: name for name, module in model.named_modules()}, {}
    with _through_interface(model), recorded_weights() as found:
        yield seen
        seen.update({names[module]: weights for module, weights in found.items()})


@contextmanager
def _branches_watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Weights by the name of the attention that the branch stands in."""
    seen: dict[str, Tensor] = {}

    def look(name: str, branch: AttentionBranch, lift: Lift, options: dict[str, Any]) -> None:
        seen[name] = attention_weights(lift, **options, top_k=branch.config.top_k)

    found = branches(model)
    for name, branch in found.items():
        branch.watch = partial(look, name, branch)  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        for branch in found.values():
            del branch.watch


@contextmanager
def _states_kept(model: nn.Module, states: dict[str, Tensor]) -> Iterator[None]:
    """What every attention receives, by name."""

    def keeper(name: str) -> Callable[..., None]:
        def keep(_: nn.Module, given: tuple, named: dict[str, Any]) -> None:
            state = named["hidden_states"] if "hidden_states" in named else given[0]
            states[name] = state.float().cpu()

        return keep

    hosts = {n: m for n, m in model.named_modules() if hasattr(m, "is_causal")}
    handles = [
        host.register_forward_pre_hook(keeper(name), with_kwargs=True)
        for name, host in hosts.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _record(name: str, weights: Tensor, state: Tensor, mask: Tensor | None) -> LayerRecord:
    weights = weights.float().cpu()
    real = torch.ones(weights.shape[0], weights.shape[3], dtype=torch.bool)
    if mask is not None:
        real = mask.bool().cpu()
    # Top-k hides other keys from each query; where no head and row looks, none may.
    sees = (weights > 0).flatten(0, 1).any(0, keepdim=True)
    return LayerRecord(name, state, weights, sees, real, real, None)
