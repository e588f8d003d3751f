"""A trained model of images, opened to predict classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import UserError
from ...files import write_atomically
from ...models.architectures import load_model
from ..kit.contents import INTEGER, NUMBER, TEXT, list_of, read_held, record
from ..kit.folder import require
from .config import CLASSES
from .files import pooled, read_image

HELD = record(
    {
        "classes": {**list_of(TEXT, least=2), "uniqueItems": True},
        "mean": list_of({**NUMBER, "minimum": 0, "maximum": 1}, least=1),
        "deviation": list_of({**NUMBER, "minimum": 1e-4, "maximum": 1}, least=1),
        "side": {**INTEGER, "minimum": 1},
        "pool": {**INTEGER, "minimum": 1},
    }
)
MOVE = (
    "give the folder of a finished run that tells classes apart, such as runs/images/softmax-seed0"
)
AGAIN = "delete the folder {} and run the same comparison again: what else is finished is kept"
BATCH = 64


@dataclass(frozen=True)
class Inputs:
    """How images become what a model reads, and the names of its classes.

    Bytes are divided by 255; ``mean`` and ``deviation`` of each channel are those of the training
    images. ``side`` counts pixels before ``pool`` x ``pool`` of them become one.
    """

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    side: int
    pool: int

    def standardized(self, scaled: Tensor) -> Tensor:
        """Scale (image, channel, row, column) in [0, 1] by the mean and deviation."""
        mean, deviation = (
            torch.tensor(each, device=scaled.device).reshape(1, -1, 1, 1)
            for each in (self.mean, self.deviation)
        )
        return (scaled - mean) / deviation

    def save(self, directory: Path) -> None:
        """Write them into a run's folder."""
        content = json.dumps(vars(self), indent=2) + "\n"
        write_atomically(directory / CLASSES, content.encode(), "image-classes")


@dataclass(frozen=True)
class Classifier:
    """A model of images with what it needs to read files."""

    model: nn.Module
    inputs: Inputs

    @torch.no_grad()
    def predict(self, paths: Sequence[str | Path]) -> np.ndarray:
        """Predict the probability of each class (file, class) for files of images.

        Raises ``UserError`` for a file that cannot be read.
        """
        self.model.eval()
        read = self.inputs
        found = []
        for start in range(0, len(paths), BATCH):
            images = np.stack(
                [
                    read_image(Path(path), read.side, len(read.mean))
                    for path in paths[start : start + BATCH]
                ]
            )
            scaled = torch.from_numpy(pooled(images, read.pool)).float() / 255
            found.append(self.model(read.standardized(scaled)).double().softmax(-1).numpy())
        return np.concatenate(found) if found else np.empty((0, len(read.classes)))


def open_classifier(directory: str | Path) -> Classifier:
    """Open the model that a run of images left in ``directory``.

    Raises ``UserError`` for a folder that holds none, or a damaged one.
    """
    directory = Path(directory)
    require(directory, CLASSES, MOVE)
    try:
        said: dict[str, Any] = read_held(directory / CLASSES, HELD)
    except UserError as error:  # of a finished run, which the same command keeps
        raise UserError(f"{str(error).partition('; ')[0]}; {AGAIN.format(directory)}") from error
    of_channels = (tuple(said[name]) for name in ("mean", "deviation"))
    inputs = Inputs(tuple(said["classes"]), *of_channels, side=said["side"], pool=said["pool"])
    try:
        model: Any = load_model(directory)
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    sizes = {
        "classes": len(inputs.classes),
        "channels": len(inputs.mean) if len(inputs.mean) == len(inputs.deviation) else 0,
        "image_height": inputs.side / inputs.pool,
    }
    for name, size in sizes.items():
        if getattr(model.config, name, None) != size:
            raise UserError(
                f"{directory / CLASSES} does not fit the model beside it ({name} = {size:g}); "
                + AGAIN.format(directory)
            )
    return Classifier(model, inputs)
