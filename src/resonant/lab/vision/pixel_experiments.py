"""Images drawn pixel by pixel: what is the past of a pixel worth, and how is it weighed?"""

from __future__ import annotations

from dataclasses import replace

from ...models.language_configs import AttentionConfig
from ...models.pixel_configs import PixelModelConfig, pixels_cifar, pixels_mnist, pixels_small
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment, locality_arms
from .config import ImagesConfig

LINEAR = Arm(
    "linear",
    "linear attention: sums over the whole past instead of a softmax",
    control="softmax",
    changes={"model.attention.mechanism": "linear"},
)


def _experiment(name: str, says: str, base: RunConfig, *, window: int, top_k: int) -> Experiment:
    return Experiment(
        name=name,
        says=says,
        base=replace(base, experiment=name),
        arms=(*locality_arms(window, top_k), LINEAR),
        unit="bits per dimension",
        token="picture",
        compared=(("krause-window", "softmax"), ("krause-window-topk", "softmax")),
    )


MNIST = _experiment(
    "mnist-pixels",
    "MNIST pooled to 14 x 14 pixels of 16 greys, one after the other, 0.10M parameters; two "
    "minutes of one core per run",
    RunConfig(
        model=pixels_small(),
        data=ImagesConfig(name="mnist", pool=2, levels=16),
        training=TrainingConfig(
            steps=1000,
            batch_size=16,
            learning_rate=4e-3,
            warmup=100,
            evaluate_every=250,
            evaluation_windows=250,
        ),
    ),
    window=64,
    top_k=48,
)


def _published(
    name: str, says: str, model: PixelModelConfig, training: TrainingConfig
) -> Experiment:
    """The published sizes; no arm drops weights, which linear attention does not have."""
    chosen = model.attention
    assert chosen.window is not None
    assert chosen.top_k is not None
    data = ImagesConfig(name=name.partition("-")[0])
    plain = replace(model, attention=AttentionConfig())
    base = RunConfig(model=plain, data=data, training=training)
    return _experiment(name, says, base, window=chosen.window, top_k=chosen.top_k)


MNIST_PUBLISHED = _published(
    "mnist-pixels-published",
    "MNIST, 28 x 28 pixels of 256 greys as published, 9.6M parameters, 30 epochs; for a GPU, not "
    "run here",
    pixels_mnist(),
    TrainingConfig(
        steps=25_780,  # 30 epochs of 859 batches
        batch_size=64,
        learning_rate=1e-3,
        warmup=860,
        evaluate_every=2_578,
        evaluation_windows=2_500,
    ),
)

CIFAR10_PUBLISHED = _published(
    "cifar10-pixels-published",
    "CIFAR-10, 3,072 numbers a picture as published, 51M parameters, 30 epochs of our choice; for "
    "a GPU, not run here",
    pixels_cifar(),
    TrainingConfig(
        steps=168_750,  # 30 epochs of 5,625 batches
        batch_size=8,
        learning_rate=1e-3,
        warmup=5_625,
        evaluate_every=16_875,
        evaluation_windows=250,
    ),
)
