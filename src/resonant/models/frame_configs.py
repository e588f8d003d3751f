"""Models from symbols to frames, as data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..mechanism import crossing, mechanism
from .fields import check_choice, check_least, fixing, from_preset, read_where, read_with


@dataclass(frozen=True)
class CrossAttentionConfig:
    """How frames listen to symbols.

    Args:
        mechanism: softmax, krause, kuramoto, gaussian-mixture, forward or clock
        score: where clocks meet, frozen, density or interval (clock)
        measure: whether a symbol weighs by the time it takes (clock)
        listen: whether clocks that run on are corrected by what frames resemble (clock)
        tempo: whether their speed is too (clock)
        components: Gaussians per head (gaussian-mixture)
        guide: weight of the guided-attention loss
        scalars: starts of learned scalars by name, as in floor: 0.5 (others: the mechanism's own)
        dropout: share of attention weights dropped in training
    """

    mechanism: str = "softmax"
    score: str = read_with("frozen", "mechanism", "clock")
    measure: bool = read_with(False, "mechanism", "clock")
    listen: bool = read_with(False, "mechanism", "clock")
    tempo: bool = read_with(False, "mechanism", "clock")
    components: int = read_with(3, "mechanism", "gaussian-mixture")
    guide: float = 0.0
    scalars: dict[str, float] = field(default_factory=dict)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_choice("model.attention.mechanism", self.mechanism, crossing())
        check_choice("model.attention.score", self.score, ("frozen", "density", "interval"))
        check_least("model.attention", self, {"components": 1, "guide": 0})
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"model.attention.dropout must be in [0, 1); it is {self.dropout}")
        if self.measure and self.score == "interval":
            raise ValueError(
                "model.attention.score = interval holds each symbol's rate already; leave out "
                "model.attention.measure"
            )
        if self.tempo and not self.listen:
            raise ValueError(
                "model.attention.tempo is of clocks that listen; give model.attention.listen = true"
            )
        if self.listen and (self.score != "frozen" or self.measure):
            raise ValueError(
                "clocks that listen have the frozen score; leave out model.attention.score and "
                "model.attention.measure"
            )
        names = mechanism(self.mechanism).scalar_names
        for name, start in self.scalars.items():
            check_choice("a name in model.attention.scalars", name, names)
            if not start > 0:
                raise ValueError(f"model.attention.scalars.{name} must be above 0; it is {start}")


def _starts_at_a_rate(config: FrameTransformerConfig) -> bool:
    mechanism = config.attention.mechanism
    runs_on = mechanism == "clock" and config.decoding == "autoregressive"
    return runs_on or mechanism in ("gaussian-mixture", "forward")


STARTS = ("by mixtures, forward attention and autoregressive clocks", _starts_at_a_rate)


@dataclass(frozen=True)
class FrameTransformerConfig:
    """Symbols to frames: an encoder, a decoder, and cross-attention to choose.

    Args:
        vocabulary: number of symbols
        features: numbers per frame
        encoder_layers: blocks over symbols
        layers: blocks over frames, each with cross-attention
        width: features per token
        heads: heads of every attention
        hidden: features inside the feed-forward layers of the decoder
        encoder_hidden: the same of the encoder
        decoding: parallel (the length is given) or autoregressive
        position: added to symbols and frames, sinusoidal, scaled (frames counted in symbols), none
        symbols_per_frame: how fast mixtures, forward attention and autoregressive clocks start
        attention: how frames listen to symbols
        architecture: frames
    """

    KIND: ClassVar[str] = "frames"
    vocabulary: int = 20
    features: int = 20
    encoder_layers: int = 2
    layers: int = 2
    width: int = 64
    heads: int = 4
    hidden: int = 128
    encoder_hidden: int = 128
    decoding: str = "parallel"
    position: str = "sinusoidal"
    symbols_per_frame: float = read_where(0.2, *STARTS)
    attention: CrossAttentionConfig = field(
        default_factory=CrossAttentionConfig, metadata=fixing("mechanism")
    )
    architecture: str = "frames"

    def __post_init__(self) -> None:
        check_choice("model.architecture", self.architecture, (type(self).KIND,))
        check_choice("model.decoding", self.decoding, ("parallel", "autoregressive"))
        check_choice("model.position", self.position, ("sinusoidal", "scaled", "none"))
        counts = ("vocabulary", "features", "encoder_layers", "layers", "width", "heads")
        check_least("model", self, dict.fromkeys((*counts, "hidden", "encoder_hidden"), 1))
        if self.width % (2 * self.heads):
            raise ValueError(
                "model.width must be a multiple of twice model.heads (positions turn pairs "
                f"of features in each head), but they are {self.width} and {self.heads}"
            )
        if self.attention.listen and self.decoding == "parallel":
            raise ValueError(
                "clocks listen frame by frame: give model.decoding = autoregressive, or leave out "
                "model.attention.listen"
            )
        if not self.symbols_per_frame > 0:
            raise ValueError(
                f"model.symbols_per_frame must be above 0; it is {self.symbols_per_frame}"
            )
        if self.attention.mechanism == "forward" and self.symbols_per_frame >= 1:
            raise ValueError(
                "forward attention moves on by at most a symbol a frame: model.symbols_per_frame "
                f"must be below 1; it is {self.symbols_per_frame}"
            )
        if self.position == "scaled" and self.decoding == "autoregressive":
            raise ValueError(
                "model.position = scaled needs the number of frames, which autoregressive decoding "
                "does not know; use sinusoidal"
            )


@dataclass(frozen=True)
class SpeechTransformerConfig(FrameTransformerConfig):
    """Phonemes to mel frames: a ``FrameTransformerConfig`` with voices and a guess of the length.

    Args:
        vocabulary: number of phonemes, and one for those unknown
        features: mel bands
        encoder_layers: blocks over phonemes
        layers: blocks over frames, each with cross-attention
        width: features per token
        heads: heads of every attention
        hidden: features inside the feed-forward layers of the decoder
        encoder_hidden: the same of the encoder
        decoding: parallel (all frames at once) or autoregressive
        position: added to phonemes and frames, sinusoidal, scaled (frames in phonemes) or none
        symbols_per_frame: how fast mixtures, forward attention and autoregressive clocks start
        attention: how frames listen to phonemes
        architecture: speech
        voices: number of voices, each a learned vector added to every phoneme
    """

    KIND: ClassVar[str] = "speech"
    vocabulary: int = 128
    features: int = 40
    width: int = 96
    hidden: int = 192
    encoder_hidden: int = 192
    symbols_per_frame: float = read_where(0.27, *STARTS)
    architecture: str = "speech"
    voices: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("model", self, {"voices": 1})


def speech_small() -> SpeechTransformerConfig:
    """0.46M parameters, 40 bands; two minutes of one core for 1,500 steps of 16 short phrases."""
    return SpeechTransformerConfig()


def speech_full() -> SpeechTransformerConfig:
    """12M parameters, 80 bands, for hop 256; one GPU. Not run here."""
    sizes = {"layers": 6, "encoder_layers": 4, "width": 256, "hidden": 1024}
    return replace(SpeechTransformerConfig(), features=80, encoder_hidden=1024, **sizes)


SPEECH_PRESETS = {"small": speech_small, "full": speech_full}


def speech_preset(name: str) -> SpeechTransformerConfig:
    """The speech model called ``name``; ``ValueError`` names the nearest if there is none."""
    return from_preset("speech preset", name, SPEECH_PRESETS)
