"""Phase language models as data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..mechanism import mechanism
from .fields import check_choice, check_least, fixing, from_preset
from .language_configs import AttentionConfig, PositionConfig

MANIFOLDS = r"circle|(sphere|so)-([2-9]|[1-9]\d+)|u-[1-9]\d*"
OSCILLATORS = 8  # of the presets
PHASE_POSITIONS = ("rotary", "morlet-relative", "none")


def _kuramoto() -> AttentionConfig:
    return AttentionConfig(mechanism="kuramoto")


@dataclass(frozen=True)
class PhaseLanguageModelConfig:
    """A causal model of phases: embedding of points, layers of coupling and drive, read-out.

    Args:
        vocabulary: number of token ids (256 for bytes)
        layers: number of layers
        width: angles (points) per token
        heads: heads, which share out the angles
        hidden: features inside the drive
        manifold: circle, sphere-N, so-N or u-N
        phase_gate: what weighs coordinates, content or static
        lag: whether a content-dependent lag stands inside the cosine
        key_gate: whether keys weigh their coordinates, too
        self_score: what one's own logit is, kept (as written; none with successors or a kernel,
            where oneself takes no part) or threshold (learned)
        successors: whether tokens are pulled towards the one after each that they attend to
        kernel: harmonics of a learned coupling to the others and their successors (0: none)
        score_block: whose coordinates a head scores with, its own or the next head's
        embedding_start: angles of tokens at the start, normal (0.5 wide) or uniform (the circle)
        gate_start: weight of a coordinate at the start
        steps: couplings per layer, with the same weights
        readout: untied, or tied to the embedding
        decay_phases: whether the embedding's angles get weight decay
        position: the drift, rotary (a rate per angle), morlet-relative or none
        attention: whom a token listens to, and an energy gate
        architecture: phase
    """

    vocabulary: int = 256
    layers: int = 2
    width: int = 64
    heads: int = 4
    hidden: int = 64
    manifold: str = "circle"
    phase_gate: str = "content"
    lag: bool = False
    key_gate: bool = False
    self_score: str = "kept"
    successors: bool = False
    kernel: int = 0
    score_block: str = "own"
    embedding_start: str = "normal"
    gate_start: float = 2.0
    steps: int = 1
    readout: str = "untied"
    decay_phases: bool = True
    position: PositionConfig = field(default_factory=PositionConfig)
    attention: AttentionConfig = field(default_factory=_kuramoto, metadata=fixing("mechanism"))
    architecture: str = "phase"

    def __post_init__(self) -> None:
        check_choice("model.architecture", self.architecture, ("phase",))
        counts = ("vocabulary", "layers", "width", "heads", "hidden", "steps")
        check_least("model", self, {**dict.fromkeys(counts, 1), "kernel": 0})
        if not re.fullmatch(MANIFOLDS, self.manifold):
            raise ValueError(
                "model.manifold is circle, sphere-N, so-N or u-N with a number N, as in sphere-4; "
                f"it is {self.manifold!r}"
            )
        check_choice("model.phase_gate", self.phase_gate, ("content", "static"))
        check_choice("model.self_score", self.self_score, ("kept", "threshold"))
        check_choice("model.score_block", self.score_block, ("own", "next"))
        check_choice("model.embedding_start", self.embedding_start, ("normal", "uniform"))
        if self.embedding_start == "uniform" and self.manifold != "circle":
            raise ValueError(
                "model.embedding_start = uniform is of angles: take model.manifold = circle, not "
                f"{self.manifold}, or model.embedding_start = normal"
            )
        self._check_coupling()
        if not 0.0 < self.gate_start < math.inf:
            raise ValueError(f"model.gate_start must be above 0; it is {self.gate_start}")
        check_choice("model.readout", self.readout, ("untied", "tied"))
        check_choice("model.position.kind", self.position.kind, PHASE_POSITIONS)
        check_choice("model.position.convention", self.position.convention, ("half",))
        check_choice("model.attention.mechanism", self.attention.mechanism, ("kuramoto",))
        names = mechanism("kuramoto").scalar_names
        for name in self.attention.scalars:
            check_choice("a name in model.attention.scalars", name, names)
        if self.width % self.heads:
            raise ValueError(
                f"model.heads must divide model.width, but they are {self.heads} and {self.width}"
            )

    def _check_coupling(self) -> None:
        if self.kernel and self.manifold != "circle":
            raise ValueError(
                "model.kernel is of angles: take model.manifold = circle, not "
                f"{self.manifold}, or model.kernel = 0"
            )
        if self.kernel and self.successors:
            raise ValueError(
                "model.kernel has the pull of successors in it: leave out model.successors, or "
                "take model.kernel = 0"
            )
        if self.score_block == "next" and self.heads == 1:
            raise ValueError("model.score_block = next needs a next head: take model.heads >= 2")
        others = self.self_score == "threshold" or self.successors or self.kernel > 0
        if others and self.attention.window == 1:
            raise ValueError(
                "a threshold, successors and a kernel leave oneself out, and nobody else is in "
                "model.attention.window = 1; take a window of 2 or more"
            )


def with_oscillators(config: PhaseLanguageModelConfig) -> PhaseLanguageModelConfig:
    """Give the model reference oscillators, angles uniform and gates at 0.5 at the start."""
    waves = replace(config.position, oscillators=OSCILLATORS)
    return replace(config, position=waves, embedding_start="uniform", gate_start=0.5)


def as_published(config: PhaseLanguageModelConfig) -> PhaseLanguageModelConfig:
    """Take from the model its reference oscillators and their start (arXiv 2606.11585)."""
    alone = replace(config.position, oscillators=0)
    return replace(config, position=alone, embedding_start="normal", gate_start=2.0)


def phase_0_11m() -> PhaseLanguageModelConfig:
    """0.11M parameters over bytes, the demo's; a minute of one core."""
    return _preset(layers=2, width=64, heads=8, hidden=70)


def phase_0_36m() -> PhaseLanguageModelConfig:
    """0.35M parameters over 66 characters; see docs/results/phases.md for what it reaches."""
    return _preset(vocabulary=66, layers=4, width=80, heads=8, hidden=179)


def phase_0_8m() -> PhaseLanguageModelConfig:
    """0.80M parameters over 66 characters; half an hour of one core. No score claimed yet."""
    return _preset(vocabulary=66, layers=4, width=128, heads=8, hidden=251)


def phase_1m() -> PhaseLanguageModelConfig:
    """1.0M parameters over bytes; hours of one core. No score claimed yet."""
    return _preset(layers=5, width=128, heads=8, hidden=232)


def phase_5m() -> PhaseLanguageModelConfig:
    """4.8M parameters over bytes; one GPU. No score claimed yet."""
    return _preset(layers=6, width=256, heads=16, hidden=493)


def _preset(**sizes: int) -> PhaseLanguageModelConfig:
    return with_oscillators(PhaseLanguageModelConfig(**sizes))  # type: ignore[arg-type]


# By the names of ``PRESETS``, within 1 % of their parameters.
PHASE_PRESETS: dict[str, Callable[[], PhaseLanguageModelConfig]] = {
    "0.11M": phase_0_11m,
    "0.36M": phase_0_36m,
    "0.8M": phase_0_8m,
    "1M": phase_1m,
    "5M": phase_5m,
}


def phase_preset(name: str) -> PhaseLanguageModelConfig:
    """The phase model called ``name``; ``ValueError`` names the nearest if there is none."""
    return from_preset("phase preset", name, PHASE_PRESETS)
