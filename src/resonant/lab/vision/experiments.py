"""Does nearness or mere locality classify images? Patches that see all, or those next to them.

Digits are scikit-learn's; CIFAR-10 is downloaded, ``cifar10-subset`` lies in a folder.
"""

from __future__ import annotations

from dataclasses import replace

from ...models.vision_configs import (
    SwinTransformerConfig,
    VisionAttentionConfig,
    VisionTransformerConfig,
    WindowAttentionConfig,
    vision_cifar_s,
    vision_digits,
    vision_imagenet_s,
    vision_small,
)
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from .config import OWN, PLACEHOLDER, ImagesConfig
from .pixel_experiments import CIFAR10_PUBLISHED as CIFAR10_PIXELS_PUBLISHED
from .pixel_experiments import MNIST, MNIST_PUBLISHED

MECHANISM, RADIUS = "model.attention.mechanism", "model.attention.radius"
COMPARED = (("krause-grid", "softmax"), ("krause-grid-topk", "softmax"))


def grid_arms(
    radius: int, top_k: int, krause: VisionTransformerConfig | None = None
) -> tuple[Arm, ...]:
    """From softmax over all patches to Krause over the nearest, one change at a time.

    ``krause`` is the model of the third, where its sigma has a start of its own.
    """
    nearness = {MECHANISM: "krause"} if krause is None else {}
    return (
        Arm("softmax", "softmax over all patches"),
        Arm(
            "softmax-grid",
            "softmax over the patches around and the class token",
            control="softmax",
            changes={RADIUS: radius},
        ),
        Arm(
            "krause-grid",
            "Krause over the same patches",
            control="softmax-grid",
            changes=nearness,
            model=krause,
        ),
        Arm(
            "krause-grid-topk",
            "Krause over the nearest of them, more from layer to layer",
            control="krause-grid",
            changes={"model.attention.top_k": top_k},
        ),
    )


def _experiment(name: str, says: str, base: RunConfig, arms: tuple[Arm, ...]) -> Experiment:
    here = {arm.name for arm in arms}
    return Experiment(
        name=name,
        says=says,
        base=replace(base, experiment=name),
        arms=arms,
        unit="nats per picture",
        token="picture",
        compared=tuple(pair for pair in COMPARED if here >= {*pair}),
    )


def _plain(model: VisionTransformerConfig) -> VisionTransformerConfig:
    """A published model without what its arms are about."""
    return replace(model, attention=VisionAttentionConfig(metric=model.attention.metric))


DIGITS = replace(
    _experiment(
        "digits",
        "scikit-learn's 8 x 8 digits by single pixels, 0.06M parameters; a minute of one core per "
        "run, nothing to download",
        RunConfig(
            model=vision_digits(),
            data=ImagesConfig(name="digits"),
            training=TrainingConfig(
                steps=400,
                batch_size=64,
                learning_rate=4e-3,
                evaluate_every=100,
                evaluation_windows=300,
            ),
        ),
        grid_arms(radius=1, top_k=2),
    ),
    seeds=5,
)

CIFAR10_SUBSET = _experiment(
    "cifar10-subset",
    "18,000 pictures of CIFAR-10 from JPEG, 0.14M parameters; three minutes of one core per run",
    RunConfig(
        model=vision_small(),
        data=ImagesConfig(name="cifar10-subset", augment="flips"),
        training=TrainingConfig(
            steps=900,
            batch_size=64,
            learning_rate=4e-3,
            evaluate_every=300,
            evaluation_windows=1250,
        ),
    ),
    grid_arms(radius=1, top_k=2),
)

IMAGES = _experiment(
    "images",
    "your folder of images (--data.path DIR with CLASS/IMAGE in it), classes and size read off "
    "it, 0.14M parameters; three minutes of one core per run",
    RunConfig(
        model=vision_small(),
        data=ImagesConfig(name=OWN, path=PLACEHOLDER, size=0, augment="flips"),
        training=CIFAR10_SUBSET.base.training,
    ),
    grid_arms(radius=1, top_k=2),
)

CIFAR10_PUBLISHED = _experiment(
    "cifar10-published",
    "ViT-S on CIFAR-10 as published, 21M parameters, 300 epochs; for a GPU, not run here",
    RunConfig(
        model=_plain(vision_cifar_s()),
        data=ImagesConfig(name="cifar10", augment="published"),
        training=TrainingConfig(
            steps=52_800,  # 300 epochs of 176 batches
            batch_size=256,
            learning_rate=3e-4,
            warmup=1_760,
            weight_decay=0.05,
            evaluate_every=1_760,
            evaluation_windows=5_000,
        ),
    ),
    grid_arms(radius=1, top_k=2),
)

_IMAGENET_KRAUSE = replace(vision_imagenet_s().attention, top_k=None)
IMAGENET_PUBLISHED = _experiment(
    "imagenet-published",
    "ViT-S/16 on your folder of ImageNet (--data.path DIR), 22M parameters, 300 epochs; for GPUs, "
    "not run here",
    RunConfig(
        model=_plain(vision_imagenet_s()),
        data=ImagesConfig(name=OWN, path=PLACEHOLDER, augment="published"),
        training=TrainingConfig(
            steps=356_700,  # 300 epochs of 1,189 batches
            batch_size=1024,
            learning_rate=5e-4,
            warmup=11_890,
            weight_decay=0.05,
            evaluate_every=11_890,
            evaluation_windows=12_500,
        ),
    ),
    grid_arms(2, 8, replace(vision_imagenet_s(), attention=_IMAGENET_KRAUSE)),
)

_SWIN = SwinTransformerConfig(
    depths=(2, 6, 4), heads=(3, 6, 12), width=96, expansion=4, drop_path=0.1
)
SWIN_PUBLISHED = _experiment(
    "swin-published",
    "Swin on CIFAR-10 with the published rates, windows of 4; for a GPU, not run here",
    RunConfig(
        model=_SWIN,
        data=ImagesConfig(name="cifar10", augment="published"),
        training=TrainingConfig(
            steps=52_800,
            batch_size=256,
            learning_rate=2e-3,
            warmup=3_520,
            weight_decay=0.01,
            evaluate_every=1_760,
            evaluation_windows=5_000,
        ),
    ),
    (
        Arm("softmax", "softmax in windows"),
        Arm(
            "krause",
            "Krause in the same windows",
            control="softmax",
            model=replace(_SWIN, attention=WindowAttentionConfig("krause", {"sigma": 4.0})),
        ),
    ),
)

EXPERIMENTS = (
    DIGITS,
    CIFAR10_SUBSET,
    IMAGES,
    MNIST,
    CIFAR10_PUBLISHED,
    IMAGENET_PUBLISHED,
    SWIN_PUBLISHED,
    MNIST_PUBLISHED,
    CIFAR10_PIXELS_PUBLISHED,
)
