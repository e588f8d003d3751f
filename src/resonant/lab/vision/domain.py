"""Images as a domain."""

from __future__ import annotations

from pathlib import Path

from ...models.pixel_configs import PixelModelConfig
from ...models.vision_configs import SwinTransformerConfig, VisionTransformerConfig
from ..kit.domain import Described, Domain
from .config import ImagesConfig
from .experiments import EXPERIMENTS
from .fitting import check_images_fit


def describe(config: ImagesConfig, data_dir: Path | None) -> Described:
    """The hash of the images, how many and how large they are."""
    from . import images  # packages of an extra

    found = images.load_images(config, data_dir)
    return Described(found.digest, images.describe(found, config))


DOMAIN = Domain(
    name="vision",
    data=(ImagesConfig,),
    models=(VisionTransformerConfig, SwinTransformerConfig, PixelModelConfig),
    experiments=EXPERIMENTS,
    task="resonant.lab.vision.task:build",
    describe="resonant.lab.vision.domain:describe",
    sections="resonant.lab.vision.report:SECTIONS",
    check=check_images_fit,
    fit="resonant.lab.vision.fitting:fit",
    unread={
        "training.context": "; an image is as large as the data say",
        "training.sample_tokens": "; nothing is written",
    },
    commands={
        "predict": ("resonant.lab.vision.predict", "classes of image files, by a trained model"),
        "draw": ("resonant.lab.vision.draw", "pictures from a trained model of pixels"),
    },
)
