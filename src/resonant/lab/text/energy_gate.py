"""Does the published energy gate survive without its leak?

The gate as published (arXiv 2605.26355) standardizes energies over the whole sequence. Here it
stands beside the same gate over the prefix and without standardizing, on learned, absolute Morlet
and rotary positions. The learning rate, one for all arms, is from the sweep in
docs/results/energy-gate.md.
"""

from __future__ import annotations

from dataclasses import replace

from ...models.language_configs import AttentionConfig, PositionConfig, preset_5m
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from .shakespeare import EXPERIMENT as SHAKESPEARE

GATE = "model.attention.gate"
LEAKING_GATE = "resonant.lab.text.leaking_gate"
POSITION = "model.position.kind"

ARMS = (
    Arm("learned", "learned positions, added; no gate"),
    Arm(
        "learned-gate-sequence",
        "the gate as published: standardized over the sequence, the future included",
        control="learned",
        changes={GATE: "energy-leaking"},
    ),
    Arm(
        "learned-gate-prefix",
        "the gate standardized over the prefix",
        control="learned",
        changes={GATE: "energy"},
    ),
    Arm(
        "learned-gate-none",
        "the gate's energies as they are",
        control="learned-gate-prefix",
        changes={"model.attention.standardize": "none"},
    ),
    Arm(
        "morlet",
        "absolute Morlet positions, added; no gate",
        control="learned",
        changes={POSITION: "morlet"},
    ),
    Arm(
        "morlet-gate-prefix",
        "absolute Morlet positions and the prefix gate",
        control="morlet",
        changes={GATE: "energy"},
    ),
    Arm(
        "morlet-gate-sequence",
        "absolute Morlet positions and the gate, both as published",
        control="morlet",
        changes={GATE: "energy-leaking"},
    ),
    Arm(
        "unplaced",
        "no positions: what order the model sees, it sees through causality",
        control="learned",
        changes={POSITION: "none"},
    ),
    Arm(
        "rotary",
        "rotary positions; no gate",
        control="learned",
        changes={POSITION: "rotary"},
    ),
    Arm(
        "rotary-gate-prefix",
        "rotary positions and the prefix gate",
        control="rotary",
        changes={GATE: "energy"},
    ),
)

EXPERIMENT = Experiment(
    name="energy-gate",
    says="characters of TinyShakespeare, 0.36M parameters, gates with and without their leak; "
    "about four minutes of one core per run",
    base=replace(
        SHAKESPEARE.base,
        experiment="energy-gate",
        plugins=(LEAKING_GATE,),
        model=replace(
            SHAKESPEARE.base.model,
            position=PositionConfig("learned", max_length=SHAKESPEARE.base.training.context),
        ),
        # Four times that is the whole test split.
        training=replace(SHAKESPEARE.base.training, evaluation_windows=109),
    ),
    arms=ARMS,
    seeds=5,
    compared=(
        ("learned-gate-sequence", "learned-gate-prefix"),
        ("learned-gate-none", "learned"),
        ("morlet-gate-sequence", "morlet-gate-prefix"),
        ("morlet-gate-sequence", "learned"),
        ("morlet-gate-prefix", "learned"),
        ("morlet", "unplaced"),
    ),
    interactions=tuple(
        ((f"{position}-{gate}", position), (f"learned-{gate}", "learned"))
        for position, gate in (
            ("morlet", "gate-prefix"),
            ("morlet", "gate-sequence"),
            ("rotary", "gate-prefix"),
        )
    ),
    published={
        ("learned-gate-sequence", "learned"): -0.092,
        ("morlet", "learned"): 0.032,
        ("morlet-gate-sequence", "learned"): -0.119,
    },
)


def _published() -> RunConfig:
    """The paper's size and training: 4.8M parameters, 82M characters; one GPU, not run here."""
    model = replace(
        preset_5m(),
        vocabulary=66,
        position=PositionConfig("learned", max_length=256),
        attention=AttentionConfig(dropout=0.1),
    )
    training = TrainingConfig(
        steps=5000,
        batch_size=64,
        context=256,
        learning_rate=3e-4,
        warmup=300,
        evaluate_every=250,
        evaluation_windows=54,  # four times that is the whole test split
    )
    named = {"experiment": "energy-gate-published", "model": model, "training": training}
    return replace(EXPERIMENT.base, **named)


PUBLISHED = replace(
    EXPERIMENT,
    name="energy-gate-published",
    says="the same arms at the paper's size, 4.8M parameters; for one GPU, not run here",
    base=_published(),
    seeds=3,
)
