"""What attention does in any model: where it looks, and what becomes of the tokens with depth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..functional.energy import log_gate
from ..functional.mask import real_keys
from ..functional.neighborhood import causal_part, positions, visible
from ..nn import EnergyGate, KuramotoAttention, PhaseAdapter
from ..nn.core import AttentionCore
from ..nn.modes import evaluating
from .collapse import clusters, residual

SINK = 0.3  # a head whose queries give the first key more than this has a sink (arXiv 2410.10781)
LEAST_WINDOW = 10  # below, uniform attention itself comes near
KINDS = (AttentionCore, PhaseAdapter, nn.MultiheadAttention)


@dataclass(frozen=True)
class LayerRecord:
    """One attention layer in one call of its model.

    ``state`` (batch, token, dim) is what it received as queries (of phases, embedded points);
    ``weights`` (batch, head, query, key) where it looked; ``sees`` (query, key) where it might have
    looked, padding apart; ``gate`` (batch, key_head, key) the energy gate's g, or None;
    ``real`` (batch, key) is False on padding.
    """

    name: str
    state: Float[Tensor, "batch query dim"]
    weights: Float[Tensor, "batch head query key"]
    sees: Bool[Tensor, "query key"]
    real: Bool[Tensor, "batch key"]
    gate: Float[Tensor, "batch key_head key"] | None

    def seen(self) -> Bool[Tensor, "batch query key"]:
        """Keys that a query may listen to; nothing for queries that are padding."""
        both = self.sees & self.real.unsqueeze(1)
        if self.sees.shape[0] == self.sees.shape[1]:
            both = both & self.real.unsqueeze(2)
        return both

    def entropy(self) -> Float[Tensor, "head"]:
        """``-sum_j A log A / log(visible keys)``: 1 looks at all alike, 0 at one key.

        Mean over queries that see more than one key.
        """
        count = self.seen().sum(-1)
        several = (count > 1).unsqueeze(1)
        each = -torch.xlogy(self.weights, self.weights).sum(-1)
        each = each / count.clamp(min=2).log().unsqueeze(1)
        return _mean(each, several)

    def sink(self) -> Float[Tensor, "head"]:
        """Mean weight of the first real key over later queries that can see it."""
        return _mean(self._first(self.weights), self._later())

    def sink_share(self) -> float:
        """Share of (row, head) whose mean weight of the first key is above 0.3.

        Not a number where a query sees fewer than 10 keys: uniform attention itself comes near.
        """
        if int(self.seen().sum(-1).max()) < LEAST_WINDOW:
            return float("nan")
        weight, later = self._first(self.weights).double(), self._later()
        rows = (weight * later).sum(-1) / later.sum(-1).clamp(min=1)
        return (rows > SINK).double().mean().item()

    def uniform_sink(self) -> float:
        """What ``sink`` would be if every query looked at all it sees alike."""
        seen = self.seen().double()
        alike = (seen / seen.sum(-1, keepdim=True).clamp(min=1.0)).unsqueeze(1)
        return _mean(self._first(alike), self._later()).item()

    def _first(self, weights: Tensor) -> Tensor:
        """(batch, head, query): the weight of the first real key."""
        first = self.real.int().argmax(-1)[:, None, None, None]
        return weights.gather(-1, first.expand(*weights.shape[:3], 1)).squeeze(-1)

    def _later(self) -> Tensor:
        """(batch, 1, query): queries that see the first real key and another one."""
        seen = self.seen()
        first = self.real.int().argmax(-1)[:, None, None].expand(-1, seen.shape[1], 1)
        return (seen.gather(-1, first).squeeze(-1) & (seen.sum(-1) > 1)).unsqueeze(1)

    def rows(self) -> list[Tensor]:
        """States of each row's real tokens."""
        same = self.state.shape[1] == self.real.shape[1]
        return [x[r] if same else x for x, r in zip(self.state, self.real, strict=True)]

    def measures(self) -> dict[str, float]:
        """Numbers of the states, means over rows: see the functions of the same names."""
        rows = [row.double() for row in self.rows()]
        kinds = {
            "residual": residual,
            "clusters": clusters,
            "token_cosine": token_cosine,
            "effective_rank": effective_rank,
        }
        return {name: sum(of(x) for x in rows) / len(rows) for name, of in kinds.items()}


@dataclass(frozen=True)
class AttentionRecord:
    """Every attention layer of a model in one call, in the order they were called."""

    layers: tuple[LayerRecord, ...]


def token_cosine(x: Float[Tensor, "token dim"]) -> float:
    """Mean cosine of the states of two different tokens: 1 when all point the same way."""
    count = x.shape[0]
    if count < 2:
        return 1.0
    unit = F.normalize(x, dim=-1)
    return ((unit.sum(0).square().sum() - count) / (count * (count - 1))).item()


def effective_rank(x: Float[Tensor, "token dim"]) -> float:
    """``exp(entropy of s / sum s)`` with s the singular values (Roy and Vetterli, 2007)."""
    values = torch.linalg.svdvals(x)
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.exp(-torch.xlogy(share, share).sum()).item()


def record_attention(
    model: nn.Module, inputs: Tensor, *, key_padding_mask: Tensor | None = None, **options: Any
) -> AttentionRecord:
    """Run ``model`` on ``inputs`` and record every attention layer in it.

    Layers are Resonant's and ``nn.MultiheadAttention``. ``key_padding_mask`` (batch, key) True =
    padding; it and ``options`` go to the model, which is in evaluation meanwhile, without
    gradients. The record lies in main memory, weights included: (query x key) a head.

    Raises ``ValueError`` for a model without attention, or one that calls a layer more than once.
    """
    layers = dict(_layers(model))
    if not layers:
        raise ValueError(
            "the model has no attention that could be recorded: neither modules of resonant.nn nor "
            "nn.MultiheadAttention"
        )
    if key_padding_mask is not None:
        options["key_padding_mask"] = key_padding_mask
    found: dict[str, LayerRecord] = {}
    with evaluating(model), _watched(layers, found):
        model(inputs, **options)
    return AttentionRecord(tuple(found.values()))


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Attention modules by name, not those inside another one."""
    outer: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{each}.") for each in outer)
        if isinstance(module, KINDS) and not inside:
            outer.append(name)
            yield name or type(module).__name__, module


@contextmanager
def _watched(layers: dict[str, nn.Module], found: dict[str, LayerRecord]) -> Iterator[None]:
    """Every layer is asked for its weights, every gate shows its values."""
    gates: dict[str, Tensor] = {}
    handles: list[Any] = []
    watched: list[EnergyGate] = []
    for name, layer in layers.items():
        handles.append(layer.register_forward_pre_hook(_ask, with_kwargs=True))
        handles.append(layer.register_forward_hook(_keeper(name, found, gates), with_kwargs=True))
        for gate in (m for m in layer.modules() if isinstance(m, EnergyGate)):
            gate.watch = _gate_keeper(name, gate, gates)  # type: ignore[method-assign]
            watched.append(gate)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for gate in watched:
            del gate.watch


def _ask(layer: nn.Module, inputs: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    options = options | {"need_weights": True}
    if isinstance(layer, nn.MultiheadAttention):
        options["average_attn_weights"] = False
    return inputs, options


def _gate_keeper(name: str, gate: EnergyGate, gates: dict[str, Tensor]) -> Any:
    def keep(z: Tensor) -> None:
        gates[name] = log_gate(z, gate.alpha(), gate.tau()).exp().float().cpu()

    return keep


def _keeper(name: str, found: dict[str, LayerRecord], gates: dict[str, Tensor]) -> Any:
    def keep(layer: nn.Module, inputs: tuple, options: dict[str, Any], output: Any) -> None:
        if name in found:
            raise ValueError(
                f"{name} is called more than once, so its weights make no one record; give a part "
                "of the model that calls it once"
            )
        query = inputs[0] if inputs else options["query"]
        state, weights = _state(layer, query), output[1].float().cpu()
        padding = options.get("key_padding_mask")
        real = real_keys(padding)
        if real is None:
            real = torch.ones(weights.shape[0], weights.shape[3], dtype=torch.bool)
        sees = _sees(layer, weights, causal=bool(options.get("is_causal", False)))
        found[name] = LayerRecord(name, state, weights, sees, real.cpu(), gates.get(name))

    return keep


def _state(layer: nn.Module, query: Tensor) -> Tensor:
    if isinstance(layer, KuramotoAttention):
        return layer.manifold.embed(layer.split(query)).flatten(2).float().cpu()
    if isinstance(layer, nn.MultiheadAttention) and not layer.batch_first:
        query = query.transpose(0, 1)
    return query.float().cpu()


def _sees(layer: nn.Module, weights: Tensor, *, causal: bool) -> Tensor:
    """(query, key): by the neighbourhood, where there is one; else wherever any row looked."""
    core = layer.coupling if isinstance(layer, PhaseAdapter) else layer
    if isinstance(core, AttentionCore):
        neighborhood = causal_part(core.neighborhood) if causal else core.neighborhood
        sizes = positions(weights.shape[2], weights.shape[3], weights.device)
        allowed = visible(neighborhood, *sizes)
        return torch.ones(weights.shape[2:], dtype=torch.bool) if allowed is None else allowed
    return (weights > 0).any(0).any(0)


def _mean(of: Tensor, where: Tensor) -> Tensor:
    """(head): mean over rows and queries (batch, head, query) where ``where`` holds."""
    where = where.to(of.dtype)
    total = (of * where).sum((0, 2))
    return total / where.sum((0, 2)).clamp(min=1.0)
