"""Models of pixels, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from .fields import check_least, from_preset
from .language_configs import AttentionConfig, LanguageModelConfig, PositionConfig


def _none() -> PositionConfig:
    return PositionConfig(kind="none")


@dataclass(frozen=True)
class PixelModelConfig(LanguageModelConfig):
    """A language model of pictures, pixel by pixel in raster order, the channels of each in turn.

    Args:
        vocabulary: shades of a channel
        layers: number of blocks
        width: features per token
        heads: query heads
        key_value_heads: key and value heads (none: as many as query heads)
        hidden: features inside the feed-forward layer
        position: what acts inside attention, rotary, morlet-relative or none
        attention: what every layer attends with (mechanism linear: sums instead of a softmax)
        architecture: pixels
        rows: rows of pixels
        columns: columns of pixels
        channels: colour channels
    """

    KIND: ClassVar[str] = "pixels"
    vocabulary: int = 16
    layers: int = 2
    width: int = 64
    heads: int = 4
    hidden: int = 160
    position: PositionConfig = field(default_factory=_none)
    architecture: str = "pixels"
    rows: int = 14
    columns: int = 14
    channels: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("model", self, dict.fromkeys(("rows", "columns", "channels"), 1))
        if self.position.kind not in ("rotary", "morlet-relative", "none"):
            raise ValueError(
                "model.position.kind of a model of pixels is rotary, morlet-relative or none (row, "
                f"column and channel are always added); it is {self.position.kind!r}"
            )

    @property
    def length(self) -> int:
        """Numbers in a picture, one token each."""
        return self.rows * self.columns * self.channels


def pixels_small() -> PixelModelConfig:
    """0.10M parameters, 14 x 14 pictures of 16 greys; see docs/results/vision.md."""
    return PixelModelConfig()


def pixels_mnist() -> PixelModelConfig:
    """The published model of MNIST pixels, 9.6M parameters: Krause, window 128, top-k 96.

    One GPU for hours (arXiv 2602.11534). Not run here.
    """
    attention = AttentionConfig("krause", window=128, top_k=96, scalars={"sigma": 2.5}, dropout=0.1)
    return PixelModelConfig(
        vocabulary=256,
        layers=12,
        width=256,
        heads=8,
        hidden=688,
        attention=attention,
        rows=28,
        columns=28,
    )


def pixels_cifar() -> PixelModelConfig:
    """The published model of CIFAR-10 pixels, 51M parameters: Krause, window 256, top-k 192.

    One GPU for days (arXiv 2602.11534). Not run here.
    """
    attention = AttentionConfig(
        "krause", window=256, top_k=192, scalars={"sigma": 2.5}, dropout=0.1
    )
    return PixelModelConfig(
        vocabulary=256,
        layers=16,
        width=512,
        heads=8,
        hidden=1368,
        attention=attention,
        rows=32,
        columns=32,
        channels=3,
    )


PIXEL_PRESETS: dict[str, Callable[[], PixelModelConfig]] = {
    "small": pixels_small,
    "mnist": pixels_mnist,
    "cifar10": pixels_cifar,
}


def pixel_preset(name: str) -> PixelModelConfig:
    """The model of pixels called ``name``; ``ValueError`` names the nearest if there is none."""
    return from_preset("preset of pixels", name, PIXEL_PRESETS)
