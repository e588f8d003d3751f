"""What attention does in any model: where it looks, and what becomes of the tokens with depth."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..functional.documents import document_runs
from ..functional.energy import log_gate
from ..functional.mask import blocked, real_keys
from ..functional.neighborhood import positions, visible
from ..nn import EnergyGate, KrauseAttention, KuramotoAttention, PhaseAdapter
from ..nn.core import AttentionCore
from ..nn.modes import evaluating, without_nested_tensors
from .collapse import clusters, residual
from .components import count_components

SINK = 0.3  # a head whose queries give the first key more than this has a sink (arXiv 2410.10781)
LEAST_WINDOW = 10  # below, uniform attention itself comes near
KINDS = (AttentionCore, PhaseAdapter, nn.MultiheadAttention)


@dataclass(frozen=True)
class LayerRecord:
    """One attention layer in one call of its model.

    ``state`` (batch, token, dim) is what it received as queries (of phases, embedded points);
    ``weights`` (batch, head, query, key) where it looked; ``sees`` (batch or 1, query, key) where
    it might have looked, padding apart; ``real`` (batch, key) and ``real_queries`` (batch, query)
    are False on padding (in cross-attention queries count as real); ``gate`` (batch, key_head, key)
    is the energy gate's g, or None. ``key_clusters`` (batch, head) counts, in Krause attention,
    connected components of keys at most sigma apart (see ``key_clusters``); None elsewhere.
    """

    name: str
    state: Float[Tensor, "batch query dim"]
    weights: Float[Tensor, "batch head query key"]
    sees: Bool[Tensor, "#batch query key"]
    real: Bool[Tensor, "batch key"]
    real_queries: Bool[Tensor, "batch query"]
    gate: Float[Tensor, "batch key_head key"] | None
    key_clusters: Int[Tensor, "batch head"] | None = None

    def seen(self) -> Bool[Tensor, "batch query key"]:
        """Keys that a query may listen to; nothing for queries that are padding."""
        return self.sees & self.real.unsqueeze(1) & self.real_queries.unsqueeze(2)

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

        Rows in which no later query sees the first key are left out. Not a number where none is
        left, or where no query sees 10 keys: uniform attention itself comes near.
        """
        if int(self.seen().sum(-1).max()) < LEAST_WINDOW:
            return float("nan")
        weight, later = self._first(self.weights).double(), self._later()
        asked = later.any(-1).expand(weight.shape[:2])
        rows = (weight * later).sum(-1) / later.sum(-1).clamp(min=1)
        return (rows > SINK)[asked].double().mean().item()

    def uniform_sink(self) -> float:
        """What ``sink`` would be if every query looked at all it sees alike."""
        seen = self.seen().double()
        alike = (seen / seen.sum(-1, keepdim=True).clamp(min=1.0)).unsqueeze(1)
        return _mean(self._first(alike), self._later()).item()

    def own(self) -> Float[Tensor, "head"]:
        """Mean weight that a token gives itself; not a number where keys are other tokens."""
        if self.weights.shape[-1] != self.weights.shape[-2]:
            return torch.full((self.weights.shape[1],), float("nan"))
        return _mean(self.weights.diagonal(dim1=-2, dim2=-1), self.real_queries.unsqueeze(1))

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
        return [x[r] for x, r in zip(self.state, self.real_queries, strict=True)]

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


def key_clusters(
    key: Float[Tensor, "batch key_head token dim"],
    sigma: Float[Tensor, "head"],
    real: Bool[Tensor, "batch token"],
) -> Int[Tensor, "batch head"]:
    """Count connected components of real keys with ``|k_i - k_j| <= sigma_h``, per row and head.

    ``sigma`` is in the keys' units; query heads share keys as in ``Lift``.
    Source: the bounded confidence of Krause's model (arXiv 2602.11534).
    """
    heads, groups = len(sigma), len(sigma) // key.shape[1]
    counts = torch.zeros(len(key), heads, dtype=torch.int64)
    for row, head in torch.cartesian_prod(torch.arange(len(key)), torch.arange(heads)):
        kept = key[row, head // groups][real[row]].double()
        near = torch.cdist(kept, kept, compute_mode="donot_use_mm_for_euclid_dist") <= sigma[head]
        counts[row, head] = count_components(near)
    return counts


def effective_rank(x: Float[Tensor, "token dim"]) -> float:
    """``exp(entropy of s / sum s)`` with s the singular values (Roy and Vetterli, 2007)."""
    values = torch.linalg.svdvals(x)
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.exp(-torch.xlogy(share, share).sum()).item()


def record_attention(model: nn.Module, *inputs: Any, **options: Any) -> AttentionRecord:
    """Call ``model(*inputs, **options)`` and record every attention layer in it.

    Layers are Resonant's and ``nn.MultiheadAttention``. Padding, masks and documents are read off
    the layers' own calls, so name them as your model does (``src_key_padding_mask``). The model is
    in evaluation meanwhile, without gradients. The record lies in main memory, weights included:
    (query x key) a head.

    Raises ``ValueError`` for a model without attention, or one that calls a layer more than once or
    without a batch.
    """
    layers = dict(attention_layers(model))
    if not layers:
        raise ValueError(
            "the model has no attention that could be recorded: neither modules of resonant.nn nor "
            "nn.MultiheadAttention"
        )
    found: dict[str, LayerRecord] = {}
    with evaluating(model), without_nested_tensors(model), _watched(layers, found):
        model(*inputs, **options)
    return AttentionRecord(tuple(found.values()))


def attention_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield attention modules with their names, not those inside another one."""
    inner: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, KINDS) and module not in inner:
            inner |= set(module.modules())
            yield name or type(module).__name__, module


@contextmanager
def _watched(layers: dict[str, nn.Module], found: dict[str, LayerRecord]) -> Iterator[None]:
    """Every layer is asked for its weights, every gate shows its values."""
    energies: dict[EnergyGate, Tensor] = {}
    keys: dict[nn.Module, Tensor] = {}
    handles: list[Any] = []
    gates = {m for layer in layers.values() for m in layer.modules() if isinstance(m, EnergyGate)}
    for name, layer in layers.items():
        handles.append(layer.register_forward_pre_hook(_ask, with_kwargs=True))
        keeper = _keeper(name, found, energies, keys=keys)
        handles.append(layer.register_forward_hook(keeper, with_kwargs=True))
    for gate in gates:
        gate.watch = partial(energies.__setitem__, gate)  # type: ignore[method-assign]
    near = [layer for layer in layers.values() if isinstance(layer, KrauseAttention)]
    for layer in near:
        layer.watch = partial(_keep_key, keys, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for watched in (*gates, *near):
            del watched.watch


def _keep_key(keys: dict[nn.Module, Tensor], layer: nn.Module, _: Tensor, key: Tensor) -> None:
    keys[layer] = key.cpu()


def _ask(layer: nn.Module, inputs: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """All arguments by name, and weights asked for, per head."""
    given = inspect.signature(layer.forward).bind(*inputs, **options).arguments
    if given["query"].dim() != 3:
        raise ValueError(
            f"attention is recorded in batches, but a query has shape {tuple(given['query'].shape)}"
            "; add a batch axis with unsqueeze(0)"
        )
    given = dict(given) | {"need_weights": True}
    if isinstance(layer, nn.MultiheadAttention):
        given["average_attn_weights"] = False
    return (), given


def _keeper(
    name: str,
    found: dict[str, LayerRecord],
    energies: dict[EnergyGate, Tensor],
    *,
    keys: dict[nn.Module, Tensor],
) -> Callable[..., None]:
    def keep(layer: nn.Module, _: tuple, given: dict[str, Any], output: Any) -> None:
        if name in found:
            raise ValueError(
                f"{name} is called more than once, so its weights make no one record; give a part "
                "of the model that calls it once"
            )
        state, weights = _state(layer, given["query"]), output[1].float().cpu()
        real = real_keys(given.get("key_padding_mask"))
        if real is None:
            real = torch.ones(weights.shape[0], weights.shape[3], dtype=torch.bool)
        own = given.get("key") is None or given["key"] is given["query"]
        queries = real if own else torch.ones(weights.shape[:1] + weights.shape[2:3]).bool()
        gate = next((m for m in layer.modules() if m in energies), None)
        shut = None
        if isinstance(gate, EnergyGate):
            shut = log_gate(energies[gate], gate.alpha(), gate.tau()).exp().float().cpu()
        grouped = None
        if isinstance(layer, KrauseAttention):
            sigma = layer.learned_scalars()["sigma"].detach().cpu()
            grouped = key_clusters(keys[layer], sigma, real.cpu())
        sees = _sees(layer, weights, given)
        found[name] = LayerRecord(
            name, state, weights, sees, real.cpu(), queries.cpu(), shut, grouped
        )

    return keep


def _state(layer: nn.Module, query: Tensor) -> Tensor:
    if isinstance(layer, KuramotoAttention):
        return layer.manifold.embed(layer.split(query)).flatten(2).float().cpu()
    if isinstance(layer, nn.MultiheadAttention) and not layer.batch_first:
        query = query.transpose(0, 1)
    return query.float().cpu()


def _sees(layer: nn.Module, weights: Tensor, given: dict[str, Any]) -> Tensor:
    """(batch or 1, query, key): by neighbourhood, mask and documents; else by the weights.

    A mask that differs by head counts where any head may look.
    """
    core = layer.coupling if isinstance(layer, PhaseAdapter) else layer
    if not isinstance(core, AttentionCore):
        return (weights > 0).any(1)
    is_causal = bool(given.get("is_causal"))
    neighborhood = core.neighborhood_of(given["query"], given.get("key"), is_causal=is_causal)
    sizes = positions(weights.shape[2], weights.shape[3], weights.device)
    allowed = visible(neighborhood, *sizes)
    shape = (1, *weights.shape[2:])
    sees = torch.ones(shape, dtype=torch.bool) if allowed is None else allowed.expand(shape)
    if given.get("attn_mask") is not None:
        mask = core._functional_mask(given["attn_mask"].cpu(), weights.shape[0])
        assert mask is not None
        taken = mask if mask.dtype == torch.bool else ~blocked(mask)
        taken = taken.expand(*weights.shape) if taken.dim() > 2 else taken[None, None]
        sees = sees & taken.any(1)
    if given.get("documents") is not None:
        runs = document_runs(given["documents"].cpu())
        sees = sees & (runs.unsqueeze(2) == runs.unsqueeze(1))
    return sees


def _mean(of: Tensor, where: Tensor) -> Tensor:
    """(head): mean over rows and queries (batch, head, query) where ``where`` holds."""
    where = where.to(of.dtype)
    total = (of * where).sum((0, 2))
    return total / where.sum((0, 2)).clamp(min=1.0)
