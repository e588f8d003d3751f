"""How far tokens are in step: order parameters, clusters, phases over layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..functional.manifold import Circle, Manifold
from ..functional.mask import real_keys
from ..nn import KuramotoAttention, PhaseBlock
from ..nn.modes import evaluating
from .components import count_components


@dataclass(frozen=True)
class PhaseRecord:
    """What a model's phases did on some tokens.

    ``points`` are embedded points as each of L couplings received them, and at the end:
    (L + 1, batch, token, head, feature, coordinate). ``coupled`` are those after each coupling,
    before the drive (L of them). ``weights`` (L, batch, head, query, key) are those of a coupling's
    last step, ``listened`` the points that entered it. ``real`` (batch, token) is False on padding.
    """

    manifold: Manifold
    points: Float[Tensor, "state batch token head feature coordinate"]
    listened: Float[Tensor, "layer batch token head feature coordinate"]
    coupled: Float[Tensor, "layer batch token head feature coordinate"]
    weights: Float[Tensor, "layer batch head token token"]
    real: Bool[Tensor, "batch token"]

    def order(self) -> Float[Tensor, "state batch head"]:
        """Order parameter ``R = mean_c |mean over real tokens of X_c|``: 1 in step, near 0 spread.

        The mean of n independent points has a length of some ``1 / sqrt(n)``, not 0.
        """
        real = self.real[:, :, None, None, None].to(self.points.dtype)
        mean = (self.points * real).sum(2) / real.sum(1).clamp(min=1.0)
        return self._length(mean)

    def local_order(self) -> Float[Tensor, "layer batch head token"]:
        """``R[t] = mean_c |sum_u A[t, u] X_u|``: how much those a token listens to agree.

        Those attended to themselves, also where their successors are what pulls. NaN for padded
        tokens, and for one that attends to nobody, as the first does under successors.
        """
        mean = self.manifold.mean(self.weights, self.listened.transpose(2, 3))
        alone = (self.weights == 0.0).all(-1) | ~self.real[:, None, :]
        return self._length(mean).masked_fill(alone, float("nan"))

    def own_weight(self) -> Float[Tensor, "layer batch head token"]:
        """``A[t, t]``: the share of its listening that a token gives itself, which moves nothing.

        Padded tokens are not a number.
        """
        own = self.weights.diagonal(dim1=-2, dim2=-1)
        return own.masked_fill(~self.real[:, None, :], float("nan"))

    def clusters(self, threshold: float = 0.5) -> Int[Tensor, "state batch head"]:
        """Number of clusters: connected components of ``distance <= threshold``.

        ``distance(t, u) = sqrt(mean_c |X_t - X_u|^2)`` over the coordinates of a head, between 0
        and 2 (on the circle about the angle in radians, where it is small). Padding is left out.
        """
        inner = self.manifold.scale * torch.einsum("sbthfc,sbuhfc->sbhtu", self.points, self.points)
        distance = (2.0 - 2.0 * inner / self.points.shape[-1]).clamp(min=0.0).sqrt()
        counts = torch.zeros(distance.shape[:3], dtype=torch.int64)
        for state, row, head in torch.cartesian_prod(*(torch.arange(n) for n in counts.shape)):
            keep = self.real[row]
            near = distance[state, row, head][keep][:, keep] <= threshold
            counts[state, row, head] = count_components(near)
        return counts

    def angles(
        self, token: Int[Tensor, "chosen"], *, row: int = 0
    ) -> Float[Tensor, "state chosen head coordinate"]:
        """Phases of chosen tokens of one row over layers, in radians; of the circle alone.

        Raises ``ValueError`` on another manifold.
        """
        if not isinstance(self.manifold, Circle):
            raise ValueError(
                f"only points of the circle have an angle, not those of {self.manifold}"
            )
        cos, sin = self.points[:, row, token].unbind(-2)
        return torch.atan2(sin, cos)

    def _length(self, mean: Tensor) -> Tensor:
        return self.manifold.inner(mean, mean).clamp(min=0.0).sqrt().mean(-1)


@dataclass
class _Seen:
    """What one coupling did in one call of the model."""

    entered: list[Tensor] = field(default_factory=list)  # embedded points, a step each
    weights: list[Tensor] = field(default_factory=list)
    coupled: list[Tensor] = field(default_factory=list)  # states
    left: list[Tensor] = field(default_factory=list)
    crossed: bool = False


def has_phases(model: nn.Module) -> bool:
    """Whether there is Kuramoto coupling in the model."""
    return any(isinstance(module, KuramotoAttention) for module in model.modules())


def record_phases(
    model: nn.Module, inputs: Tensor, *, key_padding_mask: Tensor | None = None, **options: Any
) -> PhaseRecord:
    """Run ``model`` on ``inputs`` (batch, token, ...) and record every Kuramoto coupling in it.

    ``key_padding_mask`` True = padding; it and ``options`` go to the model. The model is in
    evaluation meanwhile, without gradients. The record lies in main memory.

    Raises ``ValueError`` for a model without Kuramoto coupling, with couplings that differ in
    shape, are called more than once, or run on other tokens' phases.
    """
    layers = {m: _Seen() for m in model.modules() if isinstance(m, KuramotoAttention)}
    if not layers:
        raise ValueError("the model has no Kuramoto coupling whose phases could be shown")
    if key_padding_mask is not None:
        options["key_padding_mask"] = key_padding_mask
    with evaluating(model), _watched(model, layers):
        model(inputs, **options)
    _check(layers)
    first, seen = next(iter(layers)), list(layers.values())
    last = seen[-1].left[-1] if seen[-1].left else seen[-1].coupled[-1]

    def embedded(states: list[Tensor]) -> Tensor:
        return first.manifold.embed(torch.stack([first.split(state) for state in states])).cpu()

    entered = torch.stack([each.entered[0] for each in seen]).cpu()
    real = real_keys(key_padding_mask)
    if real is None:
        real = torch.ones(last.shape[:2], dtype=torch.bool)
    return PhaseRecord(
        first.manifold,
        points=torch.cat([entered, embedded([last])]),
        listened=torch.stack([each.entered[-1] for each in seen]).cpu(),
        coupled=embedded([each.coupled[0] for each in seen]),
        weights=torch.stack([each.weights[-1] for each in seen]).cpu(),
        real=real.cpu(),
    )


def _check(layers: dict[KuramotoAttention, _Seen]) -> None:
    for number, (layer, seen) in enumerate(layers.items()):
        why = None
        if not seen.coupled:
            why = "was not called"
        elif len(seen.coupled) > 1:
            why = "is called more than once"
        elif seen.crossed:
            why = "runs on other tokens' phases"
        if why is not None:
            raise ValueError(
                f"coupling {number} {why}, so the phases make no one record; give the part of the "
                f"model that holds the others ({layer.extra_repr()})"
            )
    kinds = {(m.manifold, m.num_heads, m.embed_dim) for m in layers}
    if len(kinds) > 1 or len({seen.coupled[0].shape for seen in layers.values()}) > 1:
        raise ValueError("the model's couplings differ in shape; give a part of the model")


@contextmanager
def _watched(model: nn.Module, layers: dict[KuramotoAttention, _Seen]) -> Iterator[None]:
    """Every coupling is asked for its weights, and says what happens in it."""

    def ask(_: nn.Module, inputs: tuple[Any, ...], options: dict) -> tuple[tuple[Any, ...], dict]:
        return inputs, options | {"need_weights": True}

    def keep(layer: nn.Module, _: tuple, output: tuple[Tensor, Tensor]) -> None:
        layers[layer].coupled.append(output[0])  # type: ignore[index]

    def leave(block: nn.Module, _: tuple, output: Tensor) -> None:
        layers[block.attention].left.append(output)  # type: ignore[index]

    def watcher(seen: _Seen) -> Any:
        def watch(x: Tensor, weights: Tensor, *, self_coupled: bool) -> None:
            seen.entered.append(x)
            seen.weights.append(weights)
            seen.crossed = seen.crossed or not self_coupled

        return watch

    handles: list[Any] = []
    for layer, seen in layers.items():
        layer.watch = watcher(seen)  # type: ignore[method-assign]
        handles.append(layer.register_forward_pre_hook(ask, with_kwargs=True))
        handles.append(layer.register_forward_hook(keep))
    blocks = [m for m in model.modules() if isinstance(m, PhaseBlock)]
    handles += [block.register_forward_hook(leave) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in layers:
            del layer.watch
