"""Bytes of Wikipedia at 1M parameters: does the distance to a transformer shrink with training?

Rates are those of ``shakespeare``; see docs/results/phases.md.
"""

from __future__ import annotations

from ...models.language_configs import preset_1m
from ...models.phase_configs import as_published, phase_1m
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from .config import TextConfig
from .phases import delay_arms, oscillator_arms, phase_arms

CONTEXT = 128

EXPERIMENT = Experiment(
    name="enwik8",
    says="bytes of the first 4 MB of enwik8, 1M parameters; some fifteen minutes of one core per "
    "run",
    base=RunConfig(
        experiment="enwik8",
        model=preset_1m(),
        data=TextConfig(name="enwik8-prefix", tokens="bytes"),
        training=TrainingConfig(
            steps=3000,
            batch_size=8,
            context=CONTEXT,
            learning_rate=4e-3,
            warmup=100,
            evaluate_every=250,
        ),
    ),
    arms=(
        Arm("softmax", "softmax over the whole past"),
        *delay_arms(),
        *phase_arms(as_published(phase_1m()), learning_rate=4e-3, static_hidden=283),
        *oscillator_arms(as_published(phase_1m()), rates=(4e-3, 4e-3), threshold_hidden=229),
    ),
    compared=(
        ("kuramoto-oscillators", "softmax"),
        ("kuramoto-oscillators", "softmax-oscillators"),
        ("softmax-oscillators", "softmax-biased"),
    ),
)
