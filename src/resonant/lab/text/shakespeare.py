"""TinyShakespeare by characters: the same question on the text everybody knows."""

from __future__ import annotations

from dataclasses import replace

from ...models.language_configs import PositionConfig, preset_0_36m
from ...models.phase_configs import as_published, phase_0_36m
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Experiment, locality_arms
from .config import TextConfig
from .phases import delay_arms, oscillator_arms, phase_arms, trial_arms
from .stdlib import gate_and_position_arms

CONTEXT = 128

EXPERIMENT = Experiment(
    name="shakespeare",
    says="characters of TinyShakespeare, 0.36M parameters; about five minutes of one core per run",
    base=RunConfig(
        experiment="shakespeare",
        model=replace(preset_0_36m(), position=PositionConfig(max_length=CONTEXT)),
        data=TextConfig(name="shakespeare", tokens="characters"),
        training=TrainingConfig(
            steps=2500,
            batch_size=8,
            context=CONTEXT,
            learning_rate=4e-3,
            warmup=100,
            evaluate_every=250,
        ),
    ),
    arms=locality_arms(window=64, top_k=48)
    + gate_and_position_arms()
    + phase_arms(as_published(phase_0_36m()), learning_rate=8e-3, static_hidden=211)
    + delay_arms()
    + oscillator_arms(as_published(phase_0_36m()), rates=(8e-3, 4e-3), threshold_hidden=176)
    + trial_arms(as_published(phase_0_36m()), key_gate_hidden=147, gate_hidden=176),
    compared=(
        *(
            (f"kuramoto-{name}oscillators", control)
            for name in ("", "threshold-", "successors-", "kernel-")
            for control in ("softmax", "softmax-oscillators")
        ),
        ("softmax-oscillators", "softmax-biased"),
        ("kuramoto-oscillators", "kuramoto-started"),
    ),
)
