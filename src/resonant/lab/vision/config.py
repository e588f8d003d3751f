"""Images as a configuration, readable without numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..kit.config import Data

IMAGES = "pictures.npz"  # in a run's folder: what the report shows of images
AUGMENTATIONS = ("none", "flips", "published")
# Pixels on a side, colour channels and classes; imagenet's are the user's folder's.
SHAPES = {"digits": (8, 1, 10), "mnist": (28, 1, 10), "cifar10": (32, 3, 10)}
SHAPES["cifar10-subset"] = SHAPES["cifar10"]


@dataclass(frozen=True)
class ImagesConfig(Data):
    """Pictures with classes, to be told apart or drawn pixel by pixel.

    Args:
        name: digits, mnist, cifar10, cifar10-subset, or imagenet (your folder; needs path)
        path: the folder of train/CLASS/PICTURE and val/CLASS/PICTURE, for name imagenet
        size: pixels on a side that pictures are brought to, for name imagenet
        pool: pixels on a side whose mean becomes one pixel
        levels: shades of a channel, for models of pixels
        augment: in training, for classes: none, flips (and shifts), or published (and mixtures)
    """

    NAMES: ClassVar[tuple[str, ...]] = (*SHAPES, "imagenet")
    name: str = "digits"
    path: str | None = None
    size: int = 224
    pool: int = 1
    levels: int = 256
    augment: str = "none"

    def __post_init__(self) -> None:
        for field, known in (("name", self.NAMES), ("augment", AUGMENTATIONS)):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"data.{field} is one of {', '.join(known)}, not {getattr(self, field)!r}"
                )
        if (self.name == "imagenet") != (self.path is not None):
            raise ValueError(
                "data.name imagenet and data.path, the folder of your pictures, belong together; "
                "give both or neither"
            )
        if self.size != 224 and self.name != "imagenet":
            raise ValueError(
                f"data.size is for pictures of your own (data.name imagenet), not for {self.name}; "
                "use data.pool for fewer pixels"
            )
        if not 2 <= self.levels <= 256:
            raise ValueError(f"data.levels is 2 to 256; it is {self.levels}")
        if self.size < 1:
            raise ValueError(f"data.size must be at least 1; it is {self.size}")
        full = self.size if self.name == "imagenet" else SHAPES[self.name][0]
        if self.pool < 1 or full % self.pool:
            raise ValueError(
                f"data.pool must divide the {full} pixels on a side of {self.name}; it is "
                f"{self.pool}"
            )

    @property
    def side(self) -> int:
        """Pixels on a side, pooled."""
        full = self.size if self.name == "imagenet" else SHAPES[self.name][0]
        return full // self.pool

    @property
    def channels(self) -> int:
        """Colour channels."""
        return 3 if self.name == "imagenet" else SHAPES[self.name][1]
