"""Which attention aligns symbols with frames, at tempi and lengths it was not trained on?

Made-up utterances whose true alignment is known; nothing to download.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from ...models.frame_configs import CrossAttentionConfig, FrameTransformerConfig
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from .config import SymbolsConfig

PARALLEL = FrameTransformerConfig()
AUTOREGRESSIVE = replace(PARALLEL, decoding="autoregressive")
# Clocks and mixtures have no queries and keys: the decoder's feed-forward layers get what they
# save. Those of clocks that listen are small.
HIDDEN = {"clock": 165, "gaussian-mixture": 160, "forward": 127, "listening": 125}
GUIDES = {
    1.0: "the guided-attention loss, as published, draws weights to the diagonal",
    10.0: "the guide ten times as strong as published",
}
# Compared beside each arm's own control.
LISTENING = tuple(
    ("next-clock-tempo", each)
    for each in ("next-clock", "next-softmax", "next-forward", "next-softmax-unplaced")
)
M = TypeVar("M", bound=FrameTransformerConfig)


def timed(model: M, mechanism: str, hidden: dict[str, int]) -> M:
    """``model`` with another cross-attention, of the same size."""
    chosen = CrossAttentionConfig(mechanism=mechanism)
    return replace(model, attention=chosen, hidden=hidden[mechanism])


def softmax_arms(symbols: str, guides: Mapping[float, str]) -> tuple[Arm, ...]:
    """Softmax, told the tempo, and drawn to the diagonal by a guide of each weight."""
    guided = (
        Arm(
            "softmax-guided" if weight == 1 else f"softmax-guided-{weight:g}",
            says,
            control="softmax",
            changes={"model.attention.guide": weight},
        )
        for weight, says in guides.items()
    )
    return (
        Arm("softmax", "softmax with sinusoidal positions, all frames at once"),
        Arm(
            "softmax-scaled",
            f"frames count their positions in {symbols}: the tempo is told",
            control="softmax",
            changes={"model.position": "scaled"},
        ),
        *guided,
    )


def baseline_arms() -> tuple[Arm, ...]:
    """All frames at once, their number given: what clocks are compared with."""
    return (
        *softmax_arms("symbols", GUIDES | {50.0: "the guide fifty times as strong"}),
        Arm(
            "mixture",
            "Gaussian mixtures that move along the symbols",
            control="softmax",
            model=timed(PARALLEL, "gaussian-mixture", HIDDEN),
        ),
    )


def clock_arms() -> tuple[Arm, ...]:
    """All frames at once by normalized clocks, and one change to them each."""
    return (
        Arm(
            "clock",
            "normalized clocks, score frozen",
            control="softmax",
            model=timed(PARALLEL, "clock", HIDDEN),
        ),
        Arm(
            "clock-measure",
            "a symbol weighs by the time it takes",
            control="clock",
            changes={"model.attention.measure": True},
        ),
        Arm(
            "clock-density",
            "the density of meeting",
            control="clock",
            changes={"model.attention.score": "density"},
        ),
        Arm(
            "clock-interval",
            "the probability of meeting inside a symbol",
            control="clock",
            changes={"model.attention.score": "interval"},
        ),
        Arm(
            "clock-unplaced",
            "no positions added: clocks between symbols and frames, rotary ones within each",
            control="clock",
            changes={"model.position": "none"},
        ),
    )


def autoregressive_arms() -> tuple[Arm, ...]:
    """Frame by frame, each seeing those before it."""
    return (
        Arm(
            "next-softmax",
            "softmax with sinusoidal positions, frame by frame",
            model=AUTOREGRESSIVE,
        ),
        Arm(
            "next-mixture",
            "Gaussian mixtures, frame by frame",
            control="next-softmax",
            model=timed(AUTOREGRESSIVE, "gaussian-mixture", HIDDEN),
        ),
        Arm(
            "next-clock",
            "clocks that run on, score frozen",
            control="next-softmax",
            model=timed(AUTOREGRESSIVE, "clock", HIDDEN),
        ),
        Arm(
            "next-clock-interval",
            "the probability of meeting inside a symbol",
            control="next-clock",
            changes={"model.attention.score": "interval"},
        ),
        *unplaced_arms(AUTOREGRESSIVE, HIDDEN),
    )


def unplaced_arms(running: FrameTransformerConfig, hidden: dict[str, int]) -> tuple[Arm, ...]:
    """Frame by frame without positions added: clocks that listen, and what they stand beside."""
    unplaced = replace(running, position="none")
    listening = CrossAttentionConfig(mechanism="clock", listen=True)
    return (
        Arm(
            "next-softmax-unplaced",
            "softmax without added positions, frame by frame",
            control="next-softmax",
            changes={"model.position": "none"},
        ),
        Arm(
            "next-forward",
            "forward attention: the posterior of a monotone hidden Markov model",
            control="next-softmax-unplaced",
            model=timed(unplaced, "forward", hidden),
        ),
        Arm(
            "next-clock-unplaced",
            "clocks that run on, without added positions",
            control="next-clock",
            changes={"model.position": "none"},
        ),
        Arm(
            "next-clock-listen",
            "clocks that run on, corrected by what the frames so far resemble",
            control="next-clock-unplaced",
            model=replace(unplaced, attention=listening, hidden=hidden["listening"]),
        ),
        Arm(
            "next-clock-tempo",
            "their speed is corrected too",
            control="next-clock-listen",
            changes={"model.attention.tempo": True},
        ),
    )


EXPERIMENT = Experiment(
    name="align",
    says="made-up symbols with durations to frames, 0.20M parameters; the true alignment is known",
    base=RunConfig(
        experiment="align",
        model=PARALLEL,
        data=SymbolsConfig(),
        training=TrainingConfig(
            steps=1000,
            batch_size=8,
            learning_rate=4e-3,
            evaluate_every=100,
            evaluation_windows=32,
        ),
    ),
    arms=baseline_arms() + clock_arms() + autoregressive_arms(),
    unit="squared error per number of a frame",
    token="frame",
    compared=(
        *(("clock", f"softmax-{each}") for each in ("scaled", "guided", "guided-10", "guided-50")),
        ("clock", "mixture"),
        *LISTENING,
    ),
)

EXPERIMENTS = (EXPERIMENT,)
