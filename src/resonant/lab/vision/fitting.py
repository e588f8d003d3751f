"""Whether a run's model and its images go together, as their configurations say. No torch."""

from __future__ import annotations

from ...errors import UserError
from ...models.pixel_configs import PixelModelConfig
from ...models.vision_configs import SwinTransformerConfig, VisionTransformerConfig
from ..kit.config import RunConfig
from .config import ImagesConfig

CLASSES = 10  # of every data set of images but a user's folder


def check_images_fit(config: RunConfig, classes: int | None = None) -> None:
    """Raise ``UserError`` for sizes of the model that are not those of its images.

    All of them are named at once, and options that the run would never read. ``classes`` are those
    of a folder, once they are known.
    """
    data, model = config.data, config.model
    assert isinstance(data, ImagesConfig)
    if isinstance(model, PixelModelConfig):
        wanted = {"rows": data.side, "columns": data.side, "channels": data.channels}
        wanted["vocabulary"] = data.levels
        if data.augment != "none":
            raise UserError(
                f"data.augment = {data.augment} is for models that tell classes apart; "
                f"{config.arm} draws pictures: leave it out"
            )
    else:
        assert isinstance(model, (VisionTransformerConfig, SwinTransformerConfig))
        wanted = {"image_height": data.side, "image_width": data.side, "channels": data.channels}
        if data.name != "imagenet" or classes is not None:
            wanted["classes"] = CLASSES if classes is None else classes
        if data.levels != 256:
            raise UserError(
                f"data.levels = {data.levels} is for models of pixels; {config.arm} tells classes "
                "apart: leave it out"
            )
    wrong = {name: size for name, size in wanted.items() if getattr(model, name) != size}
    if wrong:
        have = ", ".join(f"{name} = {size}" for name, size in wrong.items())
        options = " ".join(f"--model.{name} {size}" for name, size in wrong.items())
        raise UserError(f"the pictures have {have}, the model of {config.arm} not; pass {options}")
