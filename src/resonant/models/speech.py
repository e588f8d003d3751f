"""Phonemes to mel spectrograms: frames, voices, and a guess of how many frames."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..nn.modes import evaluating
from ..nn.timed import inverse_softplus
from .fields import with_changes
from .frame_configs import SpeechTransformerConfig, speech_preset
from .frames import FrameTransformer


class SpeechTransformer(FrameTransformer):
    """A phoneme encoder and a mel decoder; ``config.attention`` says how frames hear phonemes.

    A ``FrameTransformer`` with voices. ``lengths`` guesses how many frames an utterance takes, a
    number a phoneme from the encoder, in a linear layer of its own; ``speak`` makes as many.
    """

    config_type = SpeechTransformerConfig

    def __init__(self, config: SpeechTransformerConfig) -> None:
        super().__init__(config)
        voices = nn.Embedding(config.voices, config.width)
        nn.init.normal_(voices.weight, std=0.02)
        self.voices = voices
        self.duration = nn.Linear(config.width, 1)
        # At the start a phoneme lasts as long as it does for clocks.
        nn.init.zeros_(self.duration.weight)
        nn.init.constant_(self.duration.bias, inverse_softplus(1.0 / config.symbols_per_frame))

    def lengths(
        self,
        symbols: Int[Tensor, "batch symbol"],
        voice: Int[Tensor, "batch"],
        *,
        symbol_padding: Bool[Tensor, "batch symbol"] | None = None,
    ) -> Float[Tensor, "batch"]:
        """Guessed number of frames, not rounded.

        The sum over phonemes of ``softplus(w . encoded + b)``; the encoder gets no gradient.
        """
        encoded = self.encode(symbols, symbol_padding, voice).detach()
        each = F.softplus(self.duration(encoded).squeeze(-1))
        return (each if symbol_padding is None else each.masked_fill(symbol_padding, 0.0)).sum(-1)

    def speak(
        self,
        symbols: Int[Tensor, "batch symbol"],
        voice: Int[Tensor, "batch"],
        *,
        symbol_padding: Bool[Tensor, "batch symbol"] | None = None,
        tempo: float = 1.0,
    ) -> tuple[Float[Tensor, "batch frame band"], Int[Tensor, "batch"]]:
        """Frames and their number, nothing given but phonemes and voices.

        Parallel decoding makes as many frames as ``lengths`` guesses, divided by ``tempo``;
        autoregressive decoding stops by itself, each row at three times that at the latest.

        Raises ``ValueError`` for a ``tempo`` that is not 0.2 to 5, and for one other than 1 where
        frames come one by one and the attention keeps no time.
        """
        if not 0.2 <= tempo <= 5:
            raise ValueError(f"tempo is 0.2 to 5; it is {tempo}")
        masks: dict[str, Any] = {"symbol_padding": symbol_padding}
        with evaluating(self):
            guess = (self.lengths(symbols, voice, **masks) / tempo).round().long().clamp(min=1)
            if not self.parallel:
                most = int(3 * guess.max()) if len(guess) else 1
                made = self.decode(symbols, voice=voice, most=most, tempo=tempo, **masks)
                lengths = torch.minimum(made.lengths, 3 * guess)
                places = torch.arange(made.frames.shape[1], device=lengths.device)
                beyond = places >= lengths.unsqueeze(1)
                return made.frames.masked_fill(beyond.unsqueeze(-1), 0.0), lengths
            most = int(guess.max()) if len(guess) else 0
            padding = torch.arange(most, device=guess.device) >= guess.unsqueeze(1)
            frames = self(symbols, padding, voice=voice, **masks).frames
            return frames.masked_fill(padding.unsqueeze(-1), 0.0), guess


def speech_transformer(
    config: SpeechTransformerConfig | str = "small",
    *,
    mechanism: str | None = None,
    **changes: Any,
) -> SpeechTransformer:
    """A model from phonemes to mel frames, from a configuration or the name of a preset.

    ``mechanism`` replaces the cross-attention ("softmax", "gaussian-mixture", "clock", ...);
    further keywords replace fields of the configuration.

    Raises ``ValueError`` for an unknown preset or mechanism, ``TypeError`` for an unknown field.
    """
    if isinstance(config, str):
        config = speech_preset(config)
    return SpeechTransformer(with_changes(config, mechanism, changes))
