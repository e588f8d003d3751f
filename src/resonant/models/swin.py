"""The Swin transformer: attention in windows, coarser from stage to stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..nn import PatchMerging, VisionBlock, WindowAttention
from .fields import with_changes
from .pretrained import load_pretrained, save_pretrained
from .vision import check_images
from .vision_configs import SwinTransformerConfig, swin_preset


class SwinTransformer(nn.Module):
    """Patch embedding, stages of pre-norm blocks in windows, the mean of all patches, a read-out.

    ``images`` (batch, channel, row, column) of floats -> logits (batch, class). Every second
    block shifts its windows by half of one, unless one window is the whole image.

    Raises ``ValueError`` for images of another size, ``TypeError`` for others than floats.

    Source: Liu et al. (arXiv 2103.14030), section 3.1; Krause in windows: arXiv 2602.11534.
    """

    def __init__(self, config: SwinTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Conv2d(
            config.channels, config.width, kernel_size=config.patch, stride=config.patch
        )
        self.embedding_norm = nn.LayerNorm(config.width)
        layers, stages = sum(config.depths), []
        for stage, depth in enumerate(config.depths):
            before = sum(config.depths[:stage])
            merge = [PatchMerging(config.width * 2 ** (stage - 1))] if stage else []
            depths = ((before + i) / max(1, layers - 1) for i in range(depth))
            blocks = [_block(config, stage, i, through) for i, through in enumerate(depths)]
            stages.append(nn.Sequential(*merge, *blocks))
        self.stages = nn.ModuleList(stages)
        width = config.width * 2 ** (len(config.depths) - 1)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, config.classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, images: Float[Tensor, "batch channel row column"]
    ) -> Float[Tensor, "batch class"]:
        check_images(images, self.config)
        x = self.embedding_norm(self.embedding(images).permute(0, 2, 3, 1))
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean((1, 2)))

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``directory``."""
        save_pretrained(self, self.config, directory)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> SwinTransformer:
        """The model that ``save_pretrained`` wrote.

        Raises ``FileNotFoundError`` or ``ValueError`` when a file is missing or does not fit.
        """
        return load_pretrained(cls, SwinTransformerConfig, directory)


def swin_transformer(
    config: SwinTransformerConfig | str = "small", *, mechanism: str | None = None, **changes: Any
) -> SwinTransformer:
    """A Swin transformer from a configuration or the name of a preset.

    ``mechanism`` replaces the attention ("softmax", "krause", or a name of your own); further
    keywords replace fields of the configuration.

    Raises ``ValueError`` for an unknown preset or mechanism, ``TypeError`` for an unknown field.
    """
    if isinstance(config, str):
        config = swin_preset(config)
    return SwinTransformer(with_changes(config, mechanism, changes))


def _block(config: SwinTransformerConfig, stage: int, index: int, depth: float) -> VisionBlock:
    width, sides = config.width * 2**stage, (config.image_height, config.image_width)
    whole = all(side // config.patch // 2**stage == config.window for side in sides)
    chosen = config.attention
    windows = WindowAttention(
        chosen.mechanism,
        width,
        config.heads[stage],
        config.window,
        shift=config.window // 2 if index % 2 and not whole else 0,
        relative=config.position == "relative",
        dropout=chosen.dropout,
        **chosen.scalars,
    )
    return VisionBlock(
        windows,
        width,
        config.expansion * width,
        drop_path=config.drop_path * depth,
        dropout=config.dropout,
    )
