"""Models of pictures, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..mechanism import mechanism
from .fields import check_choice, check_least, from_preset, read_where

METRICS = ("manhattan", "chebyshev")


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be in [0, 1); it is {value}")


def _learns_scalars(config: VisionAttentionConfig) -> bool:
    of = mechanism(config.mechanism)
    return of.projects and bool(of.scalars)


@dataclass(frozen=True)
class VisionAttentionConfig:
    """How patches listen to patches.

    Args:
        mechanism: softmax, softmax-sink, krause, or a name given to resonant.register
        radius: how far from itself a patch sees others (none: all of them)
        metric: of the radius, manhattan or chebyshev
        top_k: keys kept in the first layer, the ones with the largest logits (none: all)
        top_k_growth: keys kept in the last layer over those in the first; evenly in between
        scalars: starts of learned scalars by name, as in sigma: 2.5 (others: the mechanism's own)
        scalars_per: whether a layer or each head learns scalars, layer or head (kuramoto: head)
        dropout: share of attention weights dropped in training
    """

    mechanism: str = "softmax"
    radius: int | None = None
    metric: str = "manhattan"
    top_k: int | None = None
    top_k_growth: float = 2.0
    scalars: dict[str, float] = field(default_factory=dict)
    scalars_per: str = read_where(
        "layer",
        "by mechanisms that learn scalars",
        _learns_scalars,
    )
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_choice("model.attention.metric", self.metric, METRICS)
        check_choice("model.attention.scalars_per", self.scalars_per, ("layer", "head"))
        check_least("model.attention", self, {"radius": 0, "top_k": 1, "top_k_growth": 1})
        _check_share("model.attention.dropout", self.dropout)

    def top_ks(self, layers: int) -> list[int | None]:
        """Keys kept by each layer: ``round(linspace(k, growth k, layers))``, halves to even."""
        if self.top_k is None:
            return [None] * layers
        rise = self.top_k * (self.top_k_growth - 1.0)
        return [round(self.top_k + rise * i / max(1, layers - 1)) for i in range(layers)]


@dataclass(frozen=True)
class VisionTransformerConfig:
    """A vision transformer: patches, a class token, learned positions, blocks, a linear read-out.

    Args:
        image_height: rows of pixels
        image_width: columns of pixels
        channels: colour channels
        patch: pixels on a side of a patch
        classes: number of classes
        layers: number of blocks
        width: features per token
        heads: heads of every attention
        hidden: features inside the feed-forward layer
        norm: where a block normalizes, pre (what enters a branch) or post (what leaves the sum)
        registers: further tokens that see everything, beside the class token
        drop_path: share of pictures whose branch the last block leaves out (others: less)
        dropout: share of features dropped after each branch
        position: learned, or none
        attention: how patches listen to patches
        architecture: vision
    """

    image_height: int = 32
    image_width: int = 32
    channels: int = 3
    patch: int = 4
    classes: int = 10
    layers: int = 4
    width: int = 64
    heads: int = 4
    hidden: int = 128
    norm: str = "pre"
    registers: int = 0
    drop_path: float = 0.0
    dropout: float = 0.0
    position: str = "learned"
    attention: VisionAttentionConfig = field(default_factory=VisionAttentionConfig)
    architecture: str = "vision"

    def __post_init__(self) -> None:
        check_choice("model.architecture", self.architecture, ("vision",))
        check_choice("model.norm", self.norm, ("pre", "post"))
        check_choice("model.position", self.position, ("learned", "none"))
        counts = ("image_height", "image_width", "channels", "patch", "classes", "layers")
        check_least("model", self, dict.fromkeys((*counts, "width", "heads", "hidden"), 1))
        check_least("model", self, {"registers": 0})
        _check_share("model.drop_path", self.drop_path)
        _check_share("model.dropout", self.dropout)
        check_patches(self.image_height, self.image_width, self.patch)
        if self.width % self.heads:
            raise ValueError(
                f"model.heads must divide model.width, but they are {self.heads} and {self.width}"
            )


def check_patches(height: int, width: int, patch: int) -> None:
    """Raise ``ValueError`` for a picture that does not divide into patches."""
    for name, size in (("image_height", height), ("image_width", width)):
        if size % patch:
            raise ValueError(
                f"model.patch must divide model.{name}, but they are {patch} and {size}; crop or "
                f"pad pictures to {patch * max(1, round(size / patch))}, or choose another patch"
            )


@dataclass(frozen=True)
class WindowAttentionConfig:
    """How the patches of a window listen to one another.

    Args:
        mechanism: softmax, softmax-sink, krause, or a name given to resonant.register
        scalars: starts of learned scalars by name, as in sigma: 4.0 (others: the mechanism's own)
        dropout: share of attention weights dropped in training
    """

    mechanism: str = "softmax"
    scalars: dict[str, float] = field(default_factory=dict)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_share("model.attention.dropout", self.dropout)


@dataclass(frozen=True)
class SwinTransformerConfig:
    """A Swin transformer: windows that shift from block to block, patches merged between stages.

    Args:
        image_height: rows of pixels
        image_width: columns of pixels
        channels: colour channels
        patch: pixels on a side of a patch
        classes: number of classes
        depths: blocks of each stage
        heads: heads of each stage
        width: features per patch in the first stage, doubled from stage to stage
        expansion: features inside the feed-forward layer, over those of a patch
        window: patches on a side of a window
        drop_path: share of pictures whose branch the last block leaves out (others: less)
        dropout: share of features dropped after each branch
        position: relative, or none
        attention: how the patches of a window listen to one another
        architecture: swin
    """

    image_height: int = 32
    image_width: int = 32
    channels: int = 3
    patch: int = 2
    classes: int = 10
    depths: tuple[int, ...] = (2, 2)
    heads: tuple[int, ...] = (2, 4)
    width: int = 32
    expansion: int = 2
    window: int = 4
    drop_path: float = 0.0
    dropout: float = 0.0
    position: str = "relative"
    attention: WindowAttentionConfig = field(default_factory=WindowAttentionConfig)
    architecture: str = "swin"

    def __post_init__(self) -> None:
        check_choice("model.architecture", self.architecture, ("swin",))
        check_choice("model.position", self.position, ("relative", "none"))
        counts = ("image_height", "image_width", "channels", "patch", "classes", "width")
        check_least("model", self, dict.fromkeys((*counts, "expansion", "window"), 1))
        _check_share("model.drop_path", self.drop_path)
        _check_share("model.dropout", self.dropout)
        if not self.depths or len(self.depths) != len(self.heads) or min(self.depths) < 1:
            raise ValueError(
                "model.depths and model.heads say the blocks and the heads of each stage, but they "
                f"are {self.depths} and {self.heads}"
            )
        check_patches(self.image_height, self.image_width, self.patch)
        for stage, heads in enumerate(self.heads):
            self._check_stage(stage, heads)

    def _check_stage(self, stage: int, heads: int) -> None:
        width = self.width * 2**stage
        if heads < 1 or width % heads:
            raise ValueError(
                f"the heads of stage {stage + 1} must divide its {width} features; they are {heads}"
            )
        for size in (self.image_height, self.image_width):
            patches, rest = divmod(size // self.patch, 2**stage)
            if rest or patches % self.window:
                raise ValueError(
                    f"stage {stage + 1} has {size / self.patch / 2**stage:g} patches on a side, "
                    f"which windows of {self.window} do not divide; change model.window, "
                    "model.patch or the number of stages"
                )


def vision_small() -> VisionTransformerConfig:
    """0.14M parameters, CIFAR's 32 x 32 x 3 by patches of 4; see docs/results/vision.md."""
    return VisionTransformerConfig()


def vision_digits() -> VisionTransformerConfig:
    """0.06M parameters, 8 x 8 digits by single pixels; half a minute of one core."""
    return VisionTransformerConfig(
        image_height=8, image_width=8, channels=1, patch=1, layers=3, width=48, hidden=96
    )


def vision_cifar_s() -> VisionTransformerConfig:
    """The published ViT-S on CIFAR-10, 21M parameters: 4 neighbours, sigma 2.5, top-k 2 to 4.

    One GPU for hours; 95.35 % reported (arXiv 2602.11534). Not run here.
    """
    attention = VisionAttentionConfig("krause", radius=1, top_k=2, scalars={"sigma": 2.5})
    return VisionTransformerConfig(
        layers=12,
        width=384,
        heads=6,
        hidden=1536,
        norm="post",
        drop_path=0.1,
        attention=attention,
    )


def _imagenet(width: int, heads: int) -> VisionTransformerConfig:
    attention = VisionAttentionConfig(
        "krause", radius=2, metric="chebyshev", top_k=8, scalars={"sigma": 4.5}
    )
    return VisionTransformerConfig(
        image_height=224,
        image_width=224,
        patch=16,
        classes=1000,
        layers=12,
        width=width,
        heads=heads,
        hidden=4 * width,
        drop_path=0.1,
        attention=attention,
    )


def vision_imagenet_s() -> VisionTransformerConfig:
    """ViT-S/16 for ImageNet, 22M parameters: 24 neighbours, sigma 4.5, top-k 8 to 16.

    Several GPUs for days; 75.69 % reported (arXiv 2602.11534). Not run here.
    """
    return _imagenet(384, 6)


def vision_imagenet_b() -> VisionTransformerConfig:
    """ViT-B/16 for ImageNet, 86M parameters: 24 neighbours, sigma 4.5, top-k 8 to 16. Not run."""
    return _imagenet(768, 12)


VISION_PRESETS: dict[str, Callable[[], VisionTransformerConfig]] = {
    "small": vision_small,
    "digits": vision_digits,
    "cifar-s": vision_cifar_s,
    "imagenet-s": vision_imagenet_s,
    "imagenet-b": vision_imagenet_b,
}


def vision_preset(name: str) -> VisionTransformerConfig:
    """The vision transformer called ``name``; ``ValueError`` names the nearest if there is none."""
    return from_preset("vision preset", name, VISION_PRESETS)


def swin_small() -> SwinTransformerConfig:
    """0.09M parameters, CIFAR's 32 x 32 x 3: two stages of windows of 4 x 4 patches of 2 pixels."""
    return SwinTransformerConfig()


SWIN_PRESETS: dict[str, Callable[[], SwinTransformerConfig]] = {"small": swin_small}


def swin_preset(name: str) -> SwinTransformerConfig:
    """The Swin transformer called ``name``; ``ValueError`` names the nearest if there is none."""
    return from_preset("Swin preset", name, SWIN_PRESETS)
