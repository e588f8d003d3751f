"""From symbols to frames: an encoder, a decoder, and a choice of what aligns the two."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..functional.mask import real_keys
from ..functional.position import sinusoidal_encoding
from ..mechanism import mechanism
from ..nn import (
    Block,
    ClockAttention,
    CrossBlock,
    ForwardAttention,
    MixtureAttention,
    RotaryPosition,
    SoftmaxAttention,
    attention,
)
from ..nn.block import BlockCache
from ..nn.factory import AnyAttention
from ..nn.modes import evaluating
from ..nn.timed import TimedAttention, paced
from .frame_configs import FrameTransformerConfig
from .pretrained import load_pretrained, save_pretrained

F = TypeVar("F", bound="FrameTransformer")


@dataclass(frozen=True)
class FrameOutput:
    """What a ``FrameTransformer`` says of a batch.

    ``frames`` (batch, frame, feature); ``stop`` (batch, frame) logits that a frame is the last one,
    or None in parallel decoding; ``weights`` over symbols, one (batch, head, frame, symbol) a
    decoder layer, or None unless asked for.
    """

    frames: Tensor
    stop: Tensor | None
    weights: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class Decoded:
    """What autoregressive decoding made: frames (padded with zeros), lengths, who stopped.

    ``stopped`` (batch,) is False where the cap was reached first; ``weights`` as in
    ``FrameOutput``.
    """

    frames: Tensor
    lengths: Tensor
    stopped: Tensor
    weights: tuple[Tensor, ...]


class FrameTransformer(nn.Module):
    """Symbols to frames: pre-norm encoder and decoder, rotary self-attention, SwiGLU.

    ``config.attention`` says how frames listen to symbols. Parallel decoding takes the number of
    frames and makes all at once; every frame starts from one learned vector, so that what it shows
    comes from positions and symbols alone. Autoregressive decoding sees the frames before.
    """

    config_type = FrameTransformerConfig

    def __init__(self, config: FrameTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.parallel = config.decoding == "parallel"
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.voices: nn.Embedding | None = None  # vectors added to every symbol
        self.start = nn.Parameter(0.02 * torch.randn(config.width))
        self.encoder = nn.ModuleList(
            Block(_own(config), config.encoder_hidden, causal=False)
            for _ in range(config.encoder_layers)
        )
        self.encoder_norm = nn.RMSNorm(config.width)
        self.blocks = nn.ModuleList(
            CrossBlock(_own(config), _cross(config), config.hidden, causal=not self.parallel)
            for _ in range(config.layers)
        )
        self.norm = nn.RMSNorm(config.width)
        self.readout = nn.Linear(config.width, config.features)
        self.frame_proj = None if self.parallel else nn.Linear(config.features, config.width)
        self.stop = None if self.parallel else nn.Linear(config.width, 1)
        residual = 2 * config.encoder_layers + 3 * config.layers
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                parameter.data.mul_(residual**-0.5)

    def forward(
        self,
        symbols: Int[Tensor, "batch symbol"],
        frame_padding: Bool[Tensor, "batch frame"],
        *,
        symbol_padding: Bool[Tensor, "batch symbol"] | None = None,
        voice: Int[Tensor, "batch"] | None = None,
        frames: Float[Tensor, "batch frame feature"] | None = None,
        need_weights: bool = False,
    ) -> FrameOutput:
        """Masks: True = padding; ``frame_padding`` also says how many frames there are to be.

        Autoregressive models take ``frames``, of which each sees those before it; models with
        voices take ``voice``.

        Raises ``ValueError`` for ``frames`` in parallel decoding, and without them otherwise.
        """
        if (frames is None) != self.parallel:
            needs = "takes no frames" if self.parallel else "needs the frames (each sees earlier)"
            raise ValueError(f"decoding is {self.config.decoding}, so the model {needs}")
        source = self.encode(symbols, symbol_padding, voice)
        x = self._inputs(frame_padding, frames) + self.frame_positions(
            frame_padding, symbols, symbol_padding
        )
        weights = []
        for block in self.blocks:
            x, each = block(
                x,
                source,
                key_padding_mask=frame_padding,
                source_padding_mask=symbol_padding,
                need_weights=need_weights,
            )
            weights.append(each)
        x = self.norm(x)
        stop = None if self.stop is None else self.stop(x).squeeze(-1)
        return FrameOutput(self.readout(x), stop, tuple(weights) if need_weights else None)

    def encode(
        self,
        symbols: Int[Tensor, "batch symbol"],
        symbol_padding: Tensor | None = None,
        voice: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch symbol width"]:
        """What frames listen to.

        Raises ``ValueError`` for a ``voice`` where the model has none, or none where it has.
        """
        if (voice is None) != (self.voices is None):
            needs = "needs a voice for each utterance" if voice is None else "has no voices"
            raise ValueError(f"{type(self).__name__} {needs}")
        x = self.embedding(symbols)
        if self.voices is not None:
            x = x + self.voices(voice).unsqueeze(1)
        if self.config.position != "none":
            x = x + self._encoded(_count(symbols, symbol_padding))
        for block in self.encoder:
            x = block(x, key_padding_mask=symbol_padding)
        return self.encoder_norm(x)

    def _inputs(self, padding: Tensor, frames: Tensor | None) -> Tensor:
        """What each frame starts from: the frame before it, or what the first one starts from."""
        first = self.start.expand(*padding.shape[:1], 1, -1)
        if frames is None:
            return first.expand(-1, padding.shape[1], -1)
        assert self.frame_proj is not None
        return torch.cat([first, self.frame_proj(frames[:, :-1])], dim=1)

    def frame_positions(
        self, padding: Tensor, symbols: Tensor, symbol_padding: Tensor | None
    ) -> Tensor | float:
        if self.config.position == "none":
            return 0.0
        position = _count(padding, padding)
        if self.config.position == "scaled":
            frames = (~padding).sum(-1, keepdim=True).clamp(min=1)
            real = torch.ones_like(symbols) if symbol_padding is None else (~symbol_padding).long()
            wide = torch.promote_types(self.embedding.weight.dtype, torch.float32)
            per_frame = real.sum(-1, keepdim=True).to(wide) / frames
            position = (position + 0.5) * per_frame - 0.5
        return self._encoded(position)

    def _encoded(self, position: Tensor) -> Tensor:
        """Positions encoded in float32, in a model of float64 in that."""
        wide = self.embedding.weight.dtype == torch.float64
        return sinusoidal_encoding(position.double() if wide else position, self.config.width)

    def decode(
        self,
        symbols: Int[Tensor, "batch symbol"],
        *,
        symbol_padding: Bool[Tensor, "batch symbol"] | None = None,
        voice: Int[Tensor, "batch"] | None = None,
        most: int = 1000,
        tempo: float = 1.0,
    ) -> Decoded:
        """Frames one by one, until each row has stopped or has ``most`` of them.

        ``tempo`` above 1 goes through the symbols faster than the model would, below 1 slower.

        Clocks and mixtures stop when the median head of the last layer has passed the source's end;
        softmax and forward attention, which have no end, when the stop unit says so.

        Raises ``ValueError`` for a model that decodes in parallel, for ``most`` below 1, and for a
        ``tempo`` of attention that keeps no time.
        """
        if most < 1:
            raise ValueError(f"most counts frames, so it is at least 1; it is {most}")
        if self.parallel or self.frame_proj is None or self.stop is None:
            raise ValueError("decoding is parallel: call the model with the number of frames")
        with evaluating(self), nullcontext() if tempo == 1.0 else paced(self, tempo):
            source = self.encode(symbols, symbol_padding, voice)
            return self._decode(symbols, source, symbol_padding, most)

    def _decode(
        self, symbols: Tensor, source: Tensor, symbol_padding: Tensor | None, most: int
    ) -> Decoded:
        assert self.frame_proj is not None
        caches = [block.new_cache() for block in self.blocks]  # type: ignore[operator]
        done = torch.zeros_like(symbols[:, 0], dtype=torch.bool)
        lengths = torch.full_like(symbols[:, 0], most)
        made, looked = [], []
        x = self.start.expand(len(symbols), 1, -1)
        for step in range(most):
            options: dict[str, Any] = {"step": step, "symbol_padding": symbol_padding}
            frame, last, weights = self._step(x, source, caches, **options)
            made.append(frame.masked_fill(done[:, None, None], 0.0))
            looked.append(weights)
            lengths = torch.where(last & ~done, step + 1, lengths)
            done = done | last
            if done.all():
                break
            x = self.frame_proj(frame)
        weights = tuple(torch.cat(each, dim=2) for each in zip(*looked, strict=True))
        return Decoded(torch.cat(made, dim=1), lengths, done, weights)

    def _step(
        self,
        x: Tensor,
        source: Tensor,
        caches: list[BlockCache],
        *,
        step: int,
        symbol_padding: Tensor | None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """One frame, whether it is a row's last, and where it looked."""
        assert self.stop is not None
        if self.config.position != "none":
            x = x + self._encoded(torch.full(x[:1, :, 0].shape, step, device=x.device))
        looked = []
        for block, cache in zip(self.blocks, caches, strict=True):
            options = {"source_padding_mask": symbol_padding, "caches": cache}
            x, weights = block(x, source, need_weights=True, **options)
            looked.append(weights)
        x = self.norm(x)
        timed = caches[-1].cross
        last = self.stop(x)[:, 0, 0] > 0
        if timed is not None and timed.passed is not None:  # forward attention has no end
            last = timed.finished
        return self.readout(x), last, looked

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``directory``."""
        save_pretrained(self, self.config, directory)

    @classmethod
    def from_pretrained(cls: type[F], directory: str | Path) -> F:
        """The model that ``save_pretrained`` wrote.

        Raises ``FileNotFoundError`` or ``ValueError`` when a file is missing or does not fit.
        """
        return load_pretrained(cls, cls.config_type, directory)


def _count(of: Tensor, padding: Tensor | None) -> Int[Tensor, "batch token"]:
    """Positions of real tokens, from 0; padding is not counted."""
    real = torch.ones_like(of, dtype=torch.bool) if padding is None else real_keys(padding)
    assert real is not None
    return (real.cumsum(-1) - 1).clamp(min=0)


def _own(config: FrameTransformerConfig) -> SoftmaxAttention:
    """Self-attention."""
    position = RotaryPosition(config.width // config.heads)
    return SoftmaxAttention(config.width, config.heads, bias=False, position=position)


def _cross(config: FrameTransformerConfig) -> AnyAttention | TimedAttention:
    """Cross-attention by the configuration's mechanism."""
    chosen, sizes = config.attention, (config.width, config.heads)
    options = {"bias": False, "dropout": chosen.dropout, **chosen.scalars}
    if not mechanism(chosen.mechanism).timed:
        return attention(chosen.mechanism, *sizes, **options)
    rate = config.symbols_per_frame
    if chosen.mechanism == "forward":
        return ForwardAttention(*sizes, query_rate=rate, **options)
    if chosen.mechanism == "gaussian-mixture":
        return MixtureAttention(*sizes, components=chosen.components, query_rate=rate, **options)
    return ClockAttention(
        *sizes,
        normalized=config.decoding == "parallel",
        score=chosen.score,  # type: ignore[arg-type]
        measure=chosen.measure,
        listen=chosen.listen,
        tempo=chosen.tempo,
        query_rate=rate,
        **options,
    )
