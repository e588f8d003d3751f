"""The language model of images: one pixel after the other, each seeing those before it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from ..nn import RasterPosition
from .fields import with_changes
from .generation import generate
from .language import LanguageModel
from .pixel_configs import PixelModelConfig, pixel_preset


class PixelModel(LanguageModel):
    """``p(image) = prod_t p(x_t | x_1 .. x_{t-1})`` over shades in raster order.

    The tokens of an image are its shades row by row, from left to right, at each place channel by
    channel. The input at place t is the shade before it (a start token at the first), and what
    stands at t is predicted: learned vectors of its row, column and channel are added.

    Tokens (batch, token) in [0, vocabulary], of which ``vocabulary`` is the start token, ->
    logits (batch, token, shade). Call ``log_likelihood``, ``draw`` and ``complete`` with images.

    Raises ``ValueError`` for more tokens than an image has.

    Source: pixel by pixel, van den Oord et al. (arXiv 1601.06759), section 2; windows and top-k,
    arXiv 2602.11534. Differs: positions of rows, columns and channels are our choice.
    """

    config_type = PixelModelConfig
    config: PixelModelConfig
    further_tokens = 1  # the start token

    def _added_position(self) -> nn.Module:
        config = self.config
        return RasterPosition(config.width, config.rows, config.columns, config.channels)

    def inputs(self, shades: Int[Tensor, "batch token"]) -> Int[Tensor, "batch token"]:
        """What is read when ``shades`` are predicted: the start token, then all but the last."""
        start = shades.new_full((len(shades), 1), self.config.vocabulary)
        return torch.cat([start, shades[:, :-1]], dim=1)

    def log_likelihood(
        self, images: Integer[Tensor, "batch row column channel"]
    ) -> Float[Tensor, "batch"]:
        """Nats of whole images of shades; over ``-length log 2``, bits per dimension.

        Raises ``ValueError`` for images of another size, ``TypeError`` for others than integers;
        PyTorch raises its own for shades that there are not.
        """
        shades = self._flat(images)
        logits = self(self.inputs(shades))
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        return wide.gather(-1, shades.unsqueeze(-1)).squeeze(-1).sum(-1)

    def draw(
        self, count: int, *, temperature: float = 1.0, seed: int | None = None
    ) -> Int[Tensor, "batch row column channel"]:
        """New images of shades, drawn pixel by pixel with a cache of the window.

        Raises ``ValueError`` for fewer than one.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1; it is {count}")
        empty = torch.zeros(count, 0, dtype=torch.long, device=self.embedding.weight.device)
        return self._continued(empty, temperature, seed)

    def complete(
        self,
        images: Integer[Tensor, "batch row column channel"],
        rows: int,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> Int[Tensor, "batch row column channel"]:
        """The first ``rows`` rows of ``images``, and others drawn below them.

        Raises ``ValueError`` for images of another size, other shades, or more rows than there
        are.
        """
        if not 0 <= rows <= self.config.rows:
            raise ValueError(f"rows to keep are 0 to {self.config.rows}; they are {rows}")
        shades = self._flat(images)
        least, most = int(shades.min()), int(shades.max())
        if least < 0 or most >= self.config.vocabulary:
            raise ValueError(
                f"shades are 0 to {self.config.vocabulary - 1}, but the pictures hold {least} to "
                f"{most}; bytes become shades by x.long() * {self.config.vocabulary} // 256"
            )
        known = shades[:, : rows * self.config.columns * self.config.channels]
        return self._continued(known, temperature, seed)

    def _continued(self, known: Tensor, temperature: float, seed: int | None) -> Tensor:
        config = self.config
        start = known.new_full((len(known), 1), config.vocabulary)
        missing = config.length - known.shape[1]
        tokens = torch.cat([start, known], dim=1)
        drawn = generate(self, tokens, missing, temperature=temperature, seed=seed)
        return drawn[:, 1:].unflatten(1, (config.rows, config.columns, config.channels))

    def _flat(self, images: Tensor) -> Tensor:
        config = self.config
        wanted = (config.rows, config.columns, config.channels)
        if tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"the model takes pictures (batch, {', '.join(map(str, wanted))}) of shades, but "
                f"their shape is {tuple(images.shape)}"
            )
        if images.is_floating_point() or images.dtype == torch.bool:
            raise TypeError(
                f"shades are whole numbers, not {images.dtype}; shares of 1 become them by "
                f"(x * {config.vocabulary - 1}).round().long()"
            )
        return images.flatten(1).long()

    def _too_long(self, longest: int) -> str:
        config = self.config
        return (
            f"a picture of {config.rows} x {config.columns} x {config.channels} has "
            f"{config.length} numbers, but the sequence has {longest}; begin a new one"
        )


def pixel_model(
    config: PixelModelConfig | str = "small", *, mechanism: str | None = None, **changes: Any
) -> PixelModel:
    """A model of pixels from a configuration or the name of a preset.

    ``mechanism`` replaces the attention ("softmax", "krause", "linear" or a name of your own);
    further keywords replace fields of the configuration.

    Raises ``ValueError`` for an unknown preset or mechanism, ``TypeError`` for an unknown field.
    """
    if isinstance(config, str):
        config = pixel_preset(config)
    return PixelModel(with_changes(config, mechanism, changes))
