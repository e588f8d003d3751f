"""The phase language model: tokens are phases that couple and are driven."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..functional.manifold import manifold
from ..functional.neighborhood import Causal
from ..nn import HeadPosition, KuramotoAttention, ModelCache, PhaseBlock, build_gate
from ..nn.cache import refuse_training
from ..nn.parameter import WideEmbedding, input_dtype
from .base import CausalModel
from .phase_configs import PhaseLanguageModelConfig, phase_preset
from .positions import head_position

# Uniform angles scramble the drift; with oscillators positions do not depend on it.
EMBEDDING_SPREAD = 0.5


class PhaseLanguageModel(CausalModel):
    """Embedding of points, layers of coupling and SwiGLU drive, read-out linear in [cos, sin].

    ``theta_0 = E[token]``; per layer ``theta <- theta + kappa * coupling(theta)`` and
    ``theta <- theta + W_2 swiglu(W_1 [cos theta, sin theta])``; logits
    ``W [cos theta, sin theta]``, or, tied, ``logit_v = sum_c w_c cos(theta_c - E[v, c])``. There is
    no norm, and the phases stay in float32 in a model of low precision. On other manifolds phases
    are points.

    Arguments of a call: see ``CausalModel``. Source: arXiv 2606.11585, the phase language model.
    Differs: manifolds, energy gates, locality; drives start smaller by depth.
    """

    config_type = PhaseLanguageModelConfig

    def __init__(self, config: PhaseLanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        self.manifold = manifold(config.manifold)
        self.embedding = WideEmbedding(config.vocabulary, config.width * self.manifold.velocities)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.layers))
        features = config.width * self.manifold.features
        if config.readout == "tied":
            self.readout = None
            self.scale = nn.Parameter(torch.empty(config.width))
        else:
            self.readout = nn.Linear(features, config.vocabulary, bias=False)
        self.no_weight_decay = () if config.decay_phases else ("embedding.weight",)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A start near the uniform guess; drives shrunk by depth."""
        if self.config.embedding_start == "uniform":
            nn.init.uniform_(self.embedding.weight, -math.pi, math.pi)
        else:
            nn.init.normal_(self.embedding.weight, std=EMBEDDING_SPREAD)
        if self.readout is None:
            nn.init.constant_(self.scale, self.config.width**-0.5)
        else:
            nn.init.normal_(self.readout.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith("down_proj.weight"):
                parameter.data.mul_(self.config.layers**-0.5)

    def forward(
        self,
        tokens: Int[Tensor, "batch sequence"],
        *,
        key_padding_mask: Tensor | None = None,
        documents: Int[Tensor, "#batch sequence"] | None = None,
        cache: ModelCache | None = None,
    ) -> Float[Tensor, "batch sequence vocabulary"]:
        if cache is not None:
            refuse_training(self)
        first = self.blocks[0].attention
        points = self.points(self.embedding(tokens))
        state = first.join(points)  # type: ignore[operator]
        masks = {"key_padding_mask": key_padding_mask, "documents": documents}
        state = self._through_blocks(state, cache, **masks)
        x = self.manifold.embed(first.split(state))  # type: ignore[operator]
        if self.readout is not None:
            return self.readout(x.flatten(2).to(input_dtype(self.readout)))
        scale = self.scale.to(x.dtype).unflatten(0, (self.config.heads, 1, -1))
        known = self.manifold.embed(self.points(self.embedding.weight.unsqueeze(0)))
        x, known = ((each.flatten(2)).to(self.scale.dtype) for each in (x * scale, known))
        return F.linear(x, known[0])

    def points(self, force: Tensor) -> Tensor:
        """Embeddings (batch, token, width * velocities) as points by head."""
        return self.manifold.point(self.blocks[0].attention.split(force))  # type: ignore[operator]


def phase_language_model(
    config: PhaseLanguageModelConfig | str = "0.11M", **changes: Any
) -> PhaseLanguageModel:
    """A causal language model of phases from a configuration or the name of a preset.

    Presets match ``language_model``'s of the same name within 1 % of parameters. Keywords replace
    fields of the configuration.

    Raises ``ValueError`` for an unknown preset or value, ``TypeError`` for an unknown field.
    """
    if isinstance(config, str):
        config = phase_preset(config)
    return PhaseLanguageModel(dataclasses.replace(config, **changes))


def _block(config: PhaseLanguageModelConfig) -> PhaseBlock:
    chosen, points = config.attention, manifold(config.manifold)
    scalars: dict[str, Any] = dict(chosen.scalars)
    gate = None
    if chosen.gate is not None:
        source = config.width * points.features
        gate = build_gate(chosen.gate, source, config.heads, standardize=chosen.standardize)
    coupling = KuramotoAttention(
        config.width,
        config.heads,
        manifold=points,
        phase_gate=config.phase_gate,  # type: ignore[arg-type]
        lag=config.lag,
        key_gate=config.key_gate,
        successors=config.successors,
        kernel=config.kernel,
        self_score=config.self_score,  # type: ignore[arg-type]
        score_block=config.score_block,  # type: ignore[arg-type]
        steps=config.steps,
        dropout=chosen.dropout,
        neighborhood=Causal(**chosen.past),
        top_k=chosen.top_k,
        position=_drift(config),
        gate=gate,
        **scalars,
    )
    if config.phase_gate == "content":
        nn.init.constant_(coupling.gate_proj.bias, config.gate_start)
    else:
        nn.init.constant_(coupling.metric.value, math.log(config.gate_start))
    return PhaseBlock(coupling, config.hidden)


def _drift(config: PhaseLanguageModelConfig) -> HeadPosition | None:
    """Rotary frequencies, one per angle of a head."""
    return head_position(config.position, 2 * config.width // config.heads, config.heads)
