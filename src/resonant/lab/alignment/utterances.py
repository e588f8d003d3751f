"""Batches of utterances: symbols, how long each lasts, and the frames they become."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Utterances:
    """A batch. Padding: symbol 0, duration 0, frames of zeros; the lengths tell.

    ``symbols`` and ``durations`` (batch, symbol); ``expected`` (batch, symbol), durations in frames
    as they can be known from the symbols; ``frames`` (batch, frame, feature); ``voices`` (batch,),
    or None where there is one alone.
    """

    symbols: Tensor
    durations: Tensor
    expected: Tensor
    frames: Tensor
    voices: Tensor | None = None

    @property
    def symbol_padding(self) -> Tensor:
        """(batch, symbol) True = padding."""
        return self.durations == 0

    @property
    def frame_padding(self) -> Tensor:
        """(batch, frame) True = padding."""
        lengths = self.durations.sum(-1, keepdim=True)
        return torch.arange(self.frames.shape[1], device=lengths.device) >= lengths

    def to(self, device: torch.device) -> Utterances:
        """The same on ``device``."""
        return Utterances(
            self.symbols.to(device),
            self.durations.to(device),
            self.expected.to(device),
            self.frames.to(device),
            None if self.voices is None else self.voices.to(device),
        )
