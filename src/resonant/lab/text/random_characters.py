"""What cannot be predicted: independent uniform characters, with gates that do and do not leak.

Eight kinds of character, each drawn alone: log 8 nats is the least that an honest causal model can
reach at any position, and what lies below it is read off the future. Nothing to download.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ...models.language_configs import AttentionConfig, PositionConfig, preset_0_11m
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from .config import TextConfig
from .energy_gate import GATE, LEAKING_GATE

KINDS = 8
CONTEXTS = (8, 16, 32, 64)


def _arms() -> tuple[Arm, ...]:
    """At each context the prefix gate, and one change to it each."""
    arms: list[Arm] = []
    for context in CONTEXTS:
        prefix = f"prefix-{context}"
        first = None if context == CONTEXTS[0] else f"prefix-{CONTEXTS[0]}"
        longer = {} if first is None else {"training.context": context}
        says = f"context {context}, standardized over the prefix"
        arms += [
            Arm(prefix, says, control=first, changes=longer),
            Arm(
                f"sequence-{context}",
                f"context {context}, over the sequence as published",
                control=prefix,
                changes={GATE: "energy-leaking"},
            ),
            Arm(
                f"none-{context}",
                f"context {context}, not standardized",
                control=prefix,
                changes={"model.attention.standardize": "none"},
            ),
        ]
    return tuple(arms)


EXPERIMENT = Experiment(
    name="random-characters",
    says="independent uniform characters of 8 kinds, two layers, energy gates; about half a minute "
    "of one core per run",
    base=RunConfig(
        experiment="random-characters",
        plugins=(LEAKING_GATE,),
        model=replace(
            preset_0_11m(),
            vocabulary=KINDS + 1,
            position=PositionConfig("learned", max_length=CONTEXTS[-1]),
            attention=AttentionConfig(gate="energy"),
        ),
        data=TextConfig(name="random-characters", tokens="characters"),
        training=TrainingConfig(
            steps=1000,
            batch_size=32,
            context=CONTEXTS[0],
            learning_rate=4e-3,
            warmup=100,
            evaluate_every=200,
            evaluation_windows=512,
            sample_tokens=0,
        ),
    ),
    arms=_arms(),
    floor=math.log(KINDS),
)
