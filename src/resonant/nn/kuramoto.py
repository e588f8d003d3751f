"""Kuramoto attention as a module on phases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..functional.kuramoto import (
    BETA,
    CIRCLE,
    coupling_lift,
    following,
    harmonics,
    kernel_pull,
    with_own,
)
from ..functional.lift import Lift
from ..functional.manifold import Circle, Manifold
from ..functional.mask import of_others
from ..functional.neighborhood import Causal, Full, Neighborhood, without_own
from .cache import AttentionCache, CouplingCache
from .core import AttentionCore, check_value
from .energy import EnergyGate
from .parameter import HeadScalar, Strength, WideVector, input_dtype, wide_linear
from .position import HeadPosition

PhaseGate = Literal["content", "static"]
SelfScore = Literal["kept", "threshold"]
ScoreBlock = Literal["own", "next"]
PHASE_GATES: tuple[PhaseGate, ...] = ("content", "static")
SELF_SCORES: tuple[SelfScore, ...] = ("kept", "threshold")
SCORE_BLOCKS: tuple[ScoreBlock, ...] = ("own", "next")
GATE_START = 2.0  # of a coordinate's weight; 1 was worse by 0.09 nats in a trial
GATE_SPREAD = 0.02


class KuramotoAttention(AttentionCore):
    """Phases in, phases out: every token is pulled into step with those it listens to.

    ``theta <- theta + kappa * sum_u A[t, u] sin(theta[u] - theta[t])`` with
    ``A = softmax(beta / sqrt(m) sum_c g[t, c] cos(theta[t, c] - theta[u, c] + drift + lag))`` over
    the m coordinates of a head; see ``functional.kuramoto_coupling``. States are
    (batch, token, embed_dim * components): ``embed_dim`` angles in radians on the circle; on
    another ``manifold`` points by head, then component, then coordinate (``split``, ``join``). They
    stay in float32 or better, also in a model of low precision, whose products are low.

    ``phase_gate``: "content" (signed, from [cos, sin] by a dense layer) or "static" (a positive
    weight per coordinate: a common shift of all phases then changes nothing, unless a threshold or
    a lag reads them). ``key_gate`` weighs coordinates for each key too, by a dense layer near one
    at the start. ``lag`` adds an offset inside the cosine, from [cos, sin] by a dense layer that
    starts at zero. ``steps`` couples so often with the same weights. ``beta`` (sharpness, per head)
    and ``kappa`` (strength, per coordinate, at most 2) are where these start.

    ``self_score`` "threshold" puts a learned ``w . [cos, sin] + b`` per head in the place of one's
    own logit, the largest where gates are positive: oneself moves nothing, so the others have a
    null beside them, whose share is reported as the own weight. ``score_block`` "next": a head
    scores with the coordinates of the next head (the last with the first's) and moves its own.
    Its own then reach its choice by what reads all coordinates: content gate, lag, threshold.

    ``successors``: the pull is towards the token *after* the one attended to
    (``functional.kuramoto.following``). ``kernel``: that many harmonics, with learned complex
    strengths per coordinate, of the pulls towards the others and towards their successors
    (``functional.kuramoto.kernel_pull``; both begin with half of the pull), on the circle. Both are
    causal, and oneself takes no part but as a threshold.

    ``position`` gives drift and locality: drift by its ``angle``
    (``RotaryPosition(2 * embed_dim / num_heads)`` is RoPE's); ``gate`` is an
    ``EnergyGate(embed_dim * features, num_heads)``. ``key`` are other tokens' phases, which stay as
    they are; ``value`` is the key.

    Remaining arguments, masks (boolean True = blocked) and errors: see ``Attention``. There are no
    grouped heads: heads share out the coordinates.

    Source: arXiv 2606.11585; successors, kernel 2606.18694. Ours: manifolds, lag, key gate, gate,
    locality, steps, score blocks.
    """

    OFF: ClassVar[dict[str, float]] = {**AttentionCore.OFF, "beta": 0.0, "kappa": 0.0}
    couples = True

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        manifold: Manifold = CIRCLE,
        phase_gate: PhaseGate = "content",
        lag: bool = False,
        key_gate: bool = False,
        self_score: SelfScore = "kept",
        successors: bool = False,
        kernel: int = 0,
        score_block: ScoreBlock = "own",
        steps: int = 1,
        beta: float = BETA,
        kappa: float = 1.0,
        dropout: float = 0.0,
        batch_first: bool = True,
        neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
        cross_neighborhood: Neighborhood | None = None,
        top_k: int | None = None,
        position: HeadPosition | None = None,
        gate: EnergyGate | None = None,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            dropout=dropout,
            batch_first=batch_first,
            neighborhood=neighborhood,
            cross_neighborhood=cross_neighborhood,
            top_k=top_k,
            position=position,
            gate=gate,
        )
        _check_choice("phase_gate", phase_gate, PHASE_GATES)
        _check_choice("self_score", self_score, SELF_SCORES)
        _check_score_block(score_block, num_heads)
        _check_coupling(manifold, steps, position)
        self.manifold, self.phase_gate = manifold, phase_gate
        self.steps, self.successors, self.score_block = steps, successors, score_block
        features = embed_dim * manifold.features
        self._check_gate(features)
        self.beta = HeadScalar(num_heads, beta, positive=True)
        self.kappa = Strength(embed_dim, kappa)
        if phase_gate == "content":
            self.gate_proj = nn.Linear(features, embed_dim)
        else:
            self.metric = HeadScalar(embed_dim, GATE_START, positive=True)
        self.kernel = None
        if kernel != 0:
            _check_kernel(kernel, manifold, neighborhood, successors=successors)
            self.kernel = WideVector(torch.zeros(num_heads, 2, kernel, 2, self.head_dim))
        self.lag_proj = nn.Linear(features, embed_dim, bias=False) if lag else None
        self.key_gate_proj = nn.Linear(features, embed_dim) if key_gate else None
        self.follows = successors or kernel > 0
        if self_score == "threshold" or self.follows:
            without_own(neighborhood, successors=self.follows)  # refuses what cannot be
        self.own_score = nn.Linear(features, num_heads) if self_score == "threshold" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A gate near a constant, no lag, one's own logit 0, half a pull of each delay."""
        if self.kernel is not None:
            nn.init.zeros_(self.kernel.value)
            nn.init.constant_(self.kernel.value[:, :, 0, 0], 0.5)
        if self.phase_gate == "content":
            nn.init.normal_(self.gate_proj.weight, std=GATE_SPREAD)
            nn.init.constant_(self.gate_proj.bias, GATE_START)
        if self.key_gate_proj is not None:
            nn.init.normal_(self.key_gate_proj.weight, std=GATE_SPREAD)
            nn.init.ones_(self.key_gate_proj.bias)
        for layer in filter(None, (self.lag_proj, self.own_score)):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def new_cache(self) -> CouplingCache:  # type: ignore[override]
        """An empty cache for decoding with this module."""
        one = super().new_cache()
        # The last first key has a successor too.
        first = one.first + 1 if one.first and self.follows else one.first
        return CouplingCache([AttentionCache(one.window, first) for _ in range(self.steps)])

    def split(
        self, state: Float[Tensor, "batch token state"]
    ) -> Float[Tensor, "batch token head component coordinate"]:
        """A state's points, in float32 or better."""
        wide = torch.promote_types(state.dtype, torch.float32)
        return state.to(wide).unflatten(-1, (self.num_heads, -1, self.head_dim))

    def join(
        self, points: Float[Tensor, "batch token head component coordinate"]
    ) -> Float[Tensor, "batch token state"]:
        """Points as a state."""
        return points.flatten(2)

    def watch(self, x: Tensor, weights: Tensor | None, *, self_coupled: bool) -> None:
        """Hook for diagnostics: at every step, the embedded points that couple, and the weights."""

    def forward(
        self,
        query: Float[Tensor, "batch query state"],
        key: Float[Tensor, "batch key state"] | None = None,
        value: Float[Tensor, "batch key state"] | None = None,
        *,
        key_padding_mask: Bool[Tensor, "batch key"] | Float[Tensor, "batch key"] | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: CouplingCache | None = None,
        documents: Int[Tensor, "#batch key"] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Couple; returns the state (batch, query, state) and the last step's weights or None.

        Masks, weights, ``cache`` and ``documents`` as in ``Attention.forward``.
        """
        neighborhood = self.neighborhood_of(query, key, is_causal=is_causal)
        self._check_call(attn_mask, neighborhood=neighborhood, cache=cache)
        self._check_state(query, key, value, cache)
        others = None
        if key is not None and key is not query:
            others = self.manifold.embed(self.split(key))
        points, weights = self.split(query), None
        if self.own_score is not None and others is None and not self.follows:
            neighborhood, attn_mask = of_others(neighborhood, attn_mask, query)
        options: dict[str, Any] = {
            "key_padding_mask": key_padding_mask,
            "attn_mask": attn_mask,
            "neighborhood": neighborhood,
            "need_weights": need_weights,
            "documents": documents,
        }
        for step in range(self.steps):
            store = None if cache is None else cache.steps[step]
            x = self.manifold.embed(points)
            lift, source = self._lift(x, x if others is None else others, store)
            if self.own_score is not None and others is None:
                lift = replace(lift, sink=wide_linear(self.own_score, x.flatten(2)).mT)
            mean, weights = self._attend(lift, source, cache=store, **options)
            if weights is not None and lift.sink is not None:
                weights = with_own(weights)
            self.watch(x, weights, self_coupled=others is None)
            pull = self._pull(x, mean.transpose(1, 2).to(x.dtype))
            kappa = self.kappa().to(x.dtype).unflatten(0, (self.num_heads, 1, -1))
            points = self.manifold.retract(points, kappa * pull)
        return self.join(points), weights

    def _met(
        self, lift: Lift, neighborhood: Neighborhood, mask: Tensor | None
    ) -> tuple[Lift, Neighborhood, Tensor | None]:
        if self.follows:
            beside = self.kernel is not None
            lift, neighborhood = following(lift, neighborhood, beside_own=beside)
        return lift, neighborhood, mask

    def _pull(self, x: Tensor, mean: Tensor) -> Tensor:
        """The velocity of points by the mean (batch, token, head, value_dim) of their values."""
        if self.kernel is None:
            return self.manifold.tangent(x, mean.unflatten(-1, x.shape[-2:]))
        kernel = self.kernel().to(x.dtype)
        return kernel_pull(x, mean.unflatten(-1, kernel.shape[1:]), kernel)

    def _lift(self, x: Tensor, others: Tensor, cache: AttentionCache | None) -> tuple[Lift, Tensor]:
        """The lift of embedded points (batch, token, head, feature, coordinate) and its source."""
        gate, lag = self._gate_and_lag(x)
        turned, turned_keys = x, others
        places = self._positions(x.transpose(1, 2), others.transpose(1, 2), cache)
        if self.position is not None:
            turned = self._drifted(x, places[0])
            turned_keys = turned if others is x else self._drifted(others, places[1])
        if lag is not None:
            turned = self.manifold.turn(turned, lag.to(x.dtype))
        if self.score_block == "next":
            turned, turned_keys = (each.roll(-1, 2) for each in (turned, turned_keys))
        if self.key_gate_proj is not None:
            weight = self.key_gate_proj(others.flatten(2).to(input_dtype(self.key_gate_proj)))
            shape = (self.num_heads, 1, self.head_dim)
            turned_keys = turned_keys * weight.unflatten(-1, shape).to(x.dtype)
        value = others
        if self.kernel is not None:
            value = harmonics(others, self.kernel.value.shape[2])
        lift = coupling_lift(
            turned.transpose(1, 2),
            turned_keys.transpose(1, 2),
            value.transpose(1, 2),
            self.beta(),
            gate=gate.transpose(1, 2),
            manifold=self.manifold,
        )
        if self.position is not None:
            lift = self.position.place(lift, *places)
        source = others.flatten(2)
        return lift, source if self.gate is None else source.to(input_dtype(self.gate.energy))

    def _gate_and_lag(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(batch or 1, token or 1, head, coordinate); the gate's dtype is that of products."""
        shape = (self.num_heads, self.head_dim)
        if self.phase_gate == "content":
            source = x.flatten(2).to(input_dtype(self.gate_proj))
            gate = self.gate_proj(source)
        else:
            source = x.flatten(2).to(self.metric.value.dtype)
            gate = self.metric().expand(1, 1, -1)
        lag = None if self.lag_proj is None else self.lag_proj(source).unflatten(-1, shape)
        return gate.unflatten(-1, shape), lag

    def _drifted(self, x: Tensor, position: Tensor) -> Tensor:
        assert self.position is not None
        angle = self.position.angle(position, x.dtype)
        if angle is None:
            return x
        if angle.shape[-1] != self.head_dim:
            raise ValueError(
                f"the position turns {angle.shape[-1]} angles, but a head has {self.head_dim} "
                f"coordinates; make it for a head_dim of {2 * self.head_dim}"
            )
        return self.manifold.turn(x, angle.unsqueeze(1))

    def _check_state(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        cache: CouplingCache | None,
    ) -> None:
        size = self.embed_dim * self.manifold.components
        for name, state in (("query", query), ("key", key)):
            if state is not None and (state.dim() != 3 or state.shape[-1] != size):
                raise ValueError(
                    f"coupling takes states (batch, token, {size}), but the {name} has shape "
                    f"{tuple(state.shape)}"
                )
        check_value(query, key, value)
        if self.follows and key is not None and key is not query:
            option = "successors" if self.successors else "kernel"
            raise ValueError(
                "successors are of one sequence: leave out the key (of PhaseAdapter: kdim), or "
                f"{option}"
            )
        if cache is not None and len(cache.steps) != self.steps:
            raise ValueError(
                f"this cache is for {len(cache.steps)} coupling steps, but there are {self.steps}; "
                "use the module's new_cache()"
            )

    def extra_repr(self) -> str:
        sizes = f"{self.manifold}, embed_dim={self.embed_dim}, num_heads={self.num_heads}, "
        kernel = 0 if self.kernel is None else self.kernel.value.shape[2]
        chosen = f"successors={self.successors}, kernel={kernel}, score_block={self.score_block}, "
        sizes += f"phase_gate={self.phase_gate}, {chosen}"
        return f"{sizes}steps={self.steps}, neighborhood={self.neighborhood}, top_k={self.top_k}"


def _check_score_block(score_block: str, heads: int) -> None:
    _check_choice("score_block", score_block, SCORE_BLOCKS)
    if score_block == "next" and heads == 1:
        raise ValueError("score_block is next, but one head has no next; use 2 heads or more")


def _check_coupling(manifold: Manifold, steps: int, position: HeadPosition | None) -> None:
    if not isinstance(manifold, Manifold):
        raise TypeError(
            f"manifold is a Manifold such as Sphere(4), not {manifold!r}; "
            "functional.manifold makes one from its name"
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps counts couplings, so it is at least 1; it is {steps}")
    if position is not None and position.convention != "half":
        move = f"leave out the position's convention {position.convention!r}"
        raise ValueError(f"phases drift by their own angles, which pair no features; {move}")


def _check_kernel(
    kernel: int, manifold: Manifold, neighborhood: Neighborhood, *, successors: bool
) -> None:
    if isinstance(kernel, bool) or not isinstance(kernel, int) or kernel < 0:
        raise ValueError(f"kernel counts harmonics, so it is at least 0; it is {kernel!r}")
    if successors:
        raise ValueError("a kernel has the pull of successors in it: leave out successors")
    if not isinstance(manifold, Circle):
        raise ValueError(f"harmonics are of angles: take the circle for a kernel, not {manifold}")
    if not isinstance(neighborhood, Causal):
        raise ValueError(
            "a kernel couples to the successors of earlier tokens: give neighborhood=Causal(), not "
            f"{neighborhood}"
        )


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{option} is {' or '.join(choices)}; it is {value!r}")
