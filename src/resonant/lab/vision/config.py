"""Images as a configuration, readable without numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..kit.config import Data

IMAGES = "pictures.npz"  # in a run's folder: what the report shows of images
CLASSES = "images.json"  # in a run's folder: its classes, and how images become its inputs
BY_CLASS = "by_class"  # in a run's numbers: images of each class, those predicted right and all
OWN = "images"  # the data that are a user's folder
FULL = 224  # pixels on a side of ImageNet's images, as models of them are published
PLACEHOLDER = "DIR"  # of their experiments, until --data.path is given
AUGMENTATIONS = ("none", "flips", "published")
# Pixels on a side, colour channels and classes; those of a user's folder are read off it.
SHAPES = {"digits": (8, 1, 10), "mnist": (28, 1, 10), "cifar10": (32, 3, 10)}
SHAPES["cifar10-subset"] = SHAPES["cifar10"]


@dataclass(frozen=True)
class ImagesConfig(Data):
    """Pictures with classes, to be told apart or drawn pixel by pixel.

    Args:
        name: digits, mnist, cifar10, cifar10-subset, or images (your folder; needs path)
        path: the folder of CLASS/IMAGE, or of train/CLASS/IMAGE and the like, for name images
        size: pixels on a side that pictures are brought to, for name images (0: the usual one)
        pool: pixels on a side whose mean becomes one pixel
        levels: shades of a channel, for models of pixels
        augment: in training, for classes: none, flips (and shifts), or published (and mixtures)
    """

    NAMES: ClassVar[tuple[str, ...]] = (*SHAPES, OWN)
    name: str = "digits"
    path: str | None = None
    size: int = FULL
    pool: int = 1
    levels: int = 256
    augment: str = "none"

    def __post_init__(self) -> None:
        for field, known in (("name", self.NAMES), ("augment", AUGMENTATIONS)):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"data.{field} is one of {', '.join(known)}, not {getattr(self, field)!r}"
                )
        if (self.name == OWN) != (self.path is not None):
            raise ValueError(
                f"data.name {OWN} and data.path, the folder of your pictures, belong together; "
                "give both or neither"
            )
        if self.size != FULL and self.name != OWN:
            raise ValueError(
                f"data.size is for pictures of your own (data.name {OWN}), not for {self.name}; "
                "use data.pool for fewer pixels"
            )
        if not 2 <= self.levels <= 256:
            raise ValueError(f"data.levels is 2 to 256; it is {self.levels}")
        if self.size < 0:
            raise ValueError(
                f"data.size must be at least 1, or 0 for the usual one; it is {self.size}"
            )
        if self.pool < 1 or self._full % self.pool:
            raise ValueError(
                f"data.pool must divide the {self._full} pixels on a side of {self.name}; it is "
                f"{self.pool}"
            )

    @property
    def _full(self) -> int:
        return self.size if self.name == OWN else SHAPES[self.name][0]

    @property
    def side(self) -> int:
        """Pixels on a side, pooled."""
        return self._full // self.pool

    @property
    def channels(self) -> int:
        """Colour channels."""
        return 3 if self.name == OWN else SHAPES[self.name][1]

    def trained_on(self) -> ImagesConfig:
        """Leave out where a folder lies and how large its images are."""
        return replace(self, path=PLACEHOLDER, size=0) if self.name == OWN else self
