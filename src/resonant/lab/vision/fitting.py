"""Whether a run's model and its images go together, and what a folder decides. No torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ...errors import UserError
from ...models.pixel_configs import PixelModelConfig
from ...models.vision_configs import SwinTransformerConfig, VisionTransformerConfig
from ..kit.config import RunConfig
from .config import OWN, ImagesConfig

TEN = 10  # classes of every data set of images but a user's folder
CELLS = 8  # patches on a side of a model whose images' size is read off their folder


def fit(config: RunConfig, data_dir: Path | None, given: Collection[str]) -> RunConfig:
    """Fill in what a folder of images decides: their size, and the model's sizes and classes.

    Fields that the user has ``given`` stay. Where the size is read off the folder, so is the patch:
    8 x 8 of them.

    Raises ``UserError`` for a folder that cannot be used.
    """
    del data_dir  # the folder is named by its own field
    data, model = config.data, config.model
    assert isinstance(data, ImagesConfig)
    if data.name != OWN:
        return config
    from .folders import find_images, usual_side  # packages of an extra

    folder = find_images(Path(data.path or ""))
    try:
        found = replace(data, size=data.size or usual_side(folder))
    except ValueError as error:  # of its pool
        raise UserError(str(error)) from error
    if isinstance(model, PixelModelConfig):
        sizes = {"rows": found.side, "columns": found.side, "channels": found.channels}
    else:
        sizes = {"image_height": found.side, "image_width": found.side, "channels": found.channels}
        sizes["classes"] = len(folder.classes)
        if data.size == 0 and found.side % CELLS == 0:
            sizes["patch"] = found.side // CELLS
    free = {name: size for name, size in sizes.items() if f"model.{name}" not in given}
    return replace(config, data=found, model=replace(model, **free))


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
        if data.name != OWN or classes is not None:
            wanted["classes"] = TEN if classes is None else classes
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
