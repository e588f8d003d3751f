"""Whether a run's model and its images go together, and what a folder decides. No torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from ...models.pixel_configs import PixelModelConfig
from ...models.vision_configs import SwinTransformerConfig, VisionTransformerConfig
from ..kit.config import RunConfig
from .config import OWN, ImagesConfig

if TYPE_CHECKING:
    from .folders import Folder

ImageModel = VisionTransformerConfig | SwinTransformerConfig | PixelModelConfig
TEN = 10  # classes of every data set of images but a user's folder
CELLS = 8  # patches on a side that a folder's images are cut into, or some more
MOST_CELLS = 16  # patches on a side that a model made for another size may make of them


def fit(config: RunConfig, data_dir: Path | None, given: Collection[str]) -> RunConfig:
    """Fill in what a folder of images decides: their size, and the model's sizes and classes.

    Fields that the user has ``given`` stay. Images are cut into 8 x 8 patches, or some more, where
    they are small, or the model's patch makes many or does not divide them.

    Raises ``UserError`` for a folder that cannot be used.
    """
    del data_dir  # the folder is named by its own field
    data, model = config.data, config.model
    assert isinstance(data, ImagesConfig)
    assert isinstance(model, ImageModel)
    if data.name != OWN:
        return config
    from .folders import find_images, usual_side  # packages of an extra

    folder = find_images(Path(data.path or ""))
    # Images in the place of an experiment's own data have no size of theirs either.
    unsized = data.size == 0 or ("data.name" in given and "data.size" not in given)
    try:
        found = replace(data, size=usual_side(folder) if unsized else data.size)
        fitted = replace(config, data=found, model=_sized(model, found, folder, given))
    except ValueError as error:
        raise UserError(f"{error} (the images are {data.path})") from error
    check_images_fit(fitted, len(folder.classes))
    return fitted


def _sized(
    model: ImageModel, data: ImagesConfig, folder: Folder, given: Collection[str]
) -> ImageModel:
    """Give a model the sizes of its images, but for the fields that the user has ``given``."""
    side = data.side
    if isinstance(model, PixelModelConfig):
        sizes = {"rows": side, "columns": side, "channels": data.channels}
    else:
        sizes = {"image_height": side, "image_width": side, "channels": data.channels}
        sizes["classes"] = len(folder.classes)
        few = side > CELLS**2 and side % model.patch == 0 and side <= MOST_CELLS * model.patch
        if isinstance(model, VisionTransformerConfig) and not few:
            most = -(-side // CELLS)
            sizes["patch"] = max(n for n in range(1, most + 1) if side % n == 0)
    return replace(model, **{n: s for n, s in sizes.items() if f"model.{n}" not in given})


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
