"""The demo: bytes of Python's own standard library, nothing to download.

Does nearness (Krause) or mere locality (the window) do the work? Numbers depend on the Python
version, whose library the text is; none is quoted in the README.

Learning rates come from ``resonant compare stdlib --sweep lr=0.004,0.008,0.016,0.032 --seeds 1``
with the arms of ``make demo``: 0.016 was best for the transformers (with a window 0.008, by 0.002
nats) and 0.008 for the phase model.
"""

from __future__ import annotations

from dataclasses import replace

from ...models.language_configs import PositionConfig, preset_0_11m
from ...models.phase_configs import as_published, phase_0_11m
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment, locality_arms
from .config import TextConfig
from .phases import phase_arms

CONTEXT = 128
WINDOW = 32
TOP_K = 24


def gate_and_position_arms() -> tuple[Arm, ...]:
    """What gates keys, and how positions are told, on softmax over the whole past."""
    return (
        Arm(
            "softmax-gate",
            "an energy gate on the keys (prefix statistics)",
            control="softmax",
            changes={"model.attention.gate": "energy"},
        ),
        Arm(
            "softmax-morlet-relative",
            "rotary frequencies learned, and a Gaussian locality",
            control="softmax",
            changes={"model.position.kind": "morlet-relative"},
        ),
        Arm(
            "softmax-sink",
            "a learned sink in the denominator",
            control="softmax",
            changes={"model.attention.mechanism": "softmax-sink"},
        ),
        Arm(
            "softmax-learned",
            "learned positions, added, instead of rotary ones",
            control="softmax",
            changes={"model.position.kind": "learned"},
        ),
        Arm(
            "softmax-learned-gate",
            "an energy gate beside learned positions",
            control="softmax-learned",
            changes={"model.attention.gate": "energy"},
        ),
        Arm(
            "softmax-morlet",
            "absolute Morlet positions instead of learned ones",
            control="softmax-learned",
            changes={"model.position.kind": "morlet"},
        ),
    )


EXPERIMENT = Experiment(
    name="stdlib",
    says="bytes of Python's standard library, 0.11M parameters; half a minute of one core per run",
    base=RunConfig(
        experiment="stdlib",
        # As many learned positions as there are tokens in a window; other arms have none.
        model=replace(preset_0_11m(), position=PositionConfig(max_length=CONTEXT)),
        data=TextConfig(name="stdlib", tokens="bytes"),
        training=TrainingConfig(steps=450, batch_size=16, context=CONTEXT, learning_rate=1.6e-2),
    ),
    arms=locality_arms(WINDOW, TOP_K)
    + gate_and_position_arms()
    + phase_arms(as_published(phase_0_11m()), learning_rate=8e-3, static_hidden=96),
    # Without rotary positions 450 steps are too few to come near the others.
    ceilings={
        "*": 2.1,
        "softmax": 1.9,
        "softmax-learned": 2.5,
        "softmax-learned-gate": 2.5,
        "softmax-morlet": 2.5,
        "kuramoto-static": 2.4,
    },
)
