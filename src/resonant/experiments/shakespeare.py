"""TinyShakespeare by characters: the same question on the text everybody knows."""

from __future__ import annotations

from ..data.configs import DataConfig
from ..models.configs import preset_0_36m
from ..training.configs import RunConfig, TrainingConfig
from .experiment import Experiment
from .stdlib import locality_arms

EXPERIMENT = Experiment(
    name="shakespeare",
    says="characters of TinyShakespeare, 0.36M parameters, about 75 minutes on 2 cores",
    base=RunConfig(
        experiment="shakespeare",
        model=preset_0_36m(),
        data=DataConfig(name="shakespeare", tokens="characters"),
        training=TrainingConfig(
            steps=2500,
            batch_size=8,
            context=128,
            learning_rate=4e-3,
            warmup=100,
            evaluate_every=250,
        ),
    ),
    arms=locality_arms(window=64, top_k=48),
)
