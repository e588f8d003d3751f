"""Language models as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..mechanism import known_mechanism
from .fields import check_choice, check_least, from_preset, open_choice, read_where, read_with


@dataclass(frozen=True)
class AttentionConfig:
    """One attention layer: the mechanism and whom a token may listen to.

    Args:
        mechanism: softmax, softmax-sink, krause, kuramoto, or a name given to resonant.register
        window: keys a token sees, itself included (none: the whole past)
        top_k: keys kept of those, the ones with the largest logits (none: all)
        scalars: starts of learned scalars by name, as in sigma: 2.5 (others: the mechanism's own)
        dropout: share of attention weights dropped in training
        gate: energy, or a name given to resonant.nn.register_gate (none: no gate)
        standardize: how the gate energy standardizes, prefix or none
        first: tokens at the beginning that stay visible beside a window
    """

    mechanism: str = "softmax"
    window: int | None = None
    top_k: int | None = None
    scalars: dict[str, float] = field(default_factory=dict)
    dropout: float = 0.0
    gate: str | None = open_choice(None, "energy")
    standardize: str = read_with("prefix", "gate", "energy")
    first: int = read_where(0, "with {}.window", lambda config: config.window is not None)

    def __post_init__(self) -> None:
        check_least("model.attention", self, {"window": 1, "first": 0, "top_k": 1})
        check_choice("model.attention.standardize", self.standardize, ("prefix", "none"))
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"model.attention.dropout must be in [0, 1); it is {self.dropout}")

    @property
    def past(self) -> dict[str, Any]:
        """What a token sees of its past, as ``Causal`` takes it."""
        first = 0 if self.window is None else self.first
        return {"window": self.window, "first": first}


POSITIONS = (
    "rotary",
    "rotary-biased",
    "morlet-relative",
    "sinusoidal",
    "learned",
    "morlet",
    "none",
)
ADDED = ("sinusoidal", "learned", "morlet")  # to embeddings; the others act inside attention


@dataclass(frozen=True)
class PositionConfig:
    """How a model knows the order of its tokens.

    Args:
        kind: rotary, rotary-biased (learned vectors on queries and keys), morlet-relative,
            sinusoidal, learned, morlet (absolute), or none
        base: base of the frequencies (rotary, rotary-biased, morlet-relative, sinusoidal)
        convention: which features rotations pair, half or interleaved (rotary, rotary-biased,
            morlet-relative)
        locality: width at the start, in tokens (morlet-relative)
        max_length: number of positions (learned); the model takes no longer sequence
        oscillators: cosines of distance beside it inside attention, of learned size (0: none)
    """

    kind: str = "rotary"
    base: float = 10_000.0
    convention: str = "half"
    locality: float = read_with(64.0, "kind", "morlet-relative")
    max_length: int = read_with(512, "kind", "learned")
    oscillators: int = 0

    def __post_init__(self) -> None:
        check_choice("model.position.kind", self.kind, POSITIONS)
        check_choice("model.position.convention", self.convention, ("half", "interleaved"))
        check_least("model.position", self, {"max_length": 1, "oscillators": 0})
        if not self.locality > 0:
            raise ValueError(f"model.position.locality must be above 0; it is {self.locality}")


@dataclass(frozen=True)
class LanguageModelConfig:
    """A causal transformer: pre-norm, SwiGLU, tied embeddings; attention and positions to choose.

    Args:
        vocabulary: number of token ids (256 for bytes)
        layers: number of blocks
        width: features per token
        heads: query heads
        key_value_heads: key and value heads (none: as many as query heads)
        hidden: features inside the feed-forward layer
        position: how it knows the order of tokens
        attention: what every layer attends with
        architecture: transformer
    """

    vocabulary: int = 256
    layers: int = 2
    width: int = 64
    heads: int = 4
    key_value_heads: int | None = None
    hidden: int = 160
    position: PositionConfig = field(default_factory=PositionConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    architecture: str = "transformer"

    KIND: ClassVar[str] = "transformer"

    def __post_init__(self) -> None:
        check_choice("model.architecture", self.architecture, (self.KIND,))
        counts = ("vocabulary", "layers", "width", "heads", "key_value_heads", "hidden")
        check_least("model", self, dict.fromkeys(counts, 1))
        if self.width % (2 * self.heads):
            raise ValueError(
                "model.width must be a multiple of twice model.heads (positions turn pairs "
                f"of features in each head), but they are {self.width} and {self.heads}"
            )
        chosen = known_mechanism(self.attention.mechanism)
        if self.position.kind == "rotary-biased" and chosen and chosen.couples_phases:
            raise ValueError(
                "model.position.kind = rotary-biased adds to queries and keys, which "
                f"{chosen.name} has none of; choose rotary"
            )
        if self.key_value_heads is not None and self.heads % self.key_value_heads:
            raise ValueError(
                "model.key_value_heads must divide model.heads, but they are "
                f"{self.key_value_heads} and {self.heads}"
            )


def preset_0_11m() -> LanguageModelConfig:
    """0.11M parameters over bytes, the demo's. A minute of one core reaches about 1.9 nats."""
    return LanguageModelConfig(layers=2, width=64, heads=4, hidden=160)


def preset_0_36m() -> LanguageModelConfig:
    """0.35M parameters over 66 characters; about five minutes of one core at 2,500 x 8 x 128."""
    return LanguageModelConfig(vocabulary=66, layers=4, width=80, heads=4, hidden=256)


def preset_0_8m() -> LanguageModelConfig:
    """0.80M parameters over 66 characters; half an hour of one core. No score claimed yet."""
    return LanguageModelConfig(vocabulary=66, layers=4, width=128, heads=4, hidden=344)


def preset_1m() -> LanguageModelConfig:
    """1.0M parameters over bytes; hours of one core, minutes of a GPU. No score claimed yet."""
    return LanguageModelConfig(layers=5, width=128, heads=4, hidden=336)


def preset_5m() -> LanguageModelConfig:
    """4.8M parameters over bytes; one GPU. No score claimed yet."""
    return LanguageModelConfig(layers=6, width=256, heads=8, hidden=680)


def preset_10m() -> LanguageModelConfig:
    """10.6M parameters over 66 characters, the size of nanoGPT's character model; one GPU.

    nanoGPT's best validation loss on all of TinyShakespeare is 1.4697 nats; not run here.
    """
    return LanguageModelConfig(vocabulary=66, layers=6, width=384, heads=6, hidden=1024)


def preset_85m() -> LanguageModelConfig:
    """85M parameters over bytes; one large GPU for days. Not run here."""
    return LanguageModelConfig(layers=12, width=768, heads=12, hidden=2048)


def krause_100m() -> LanguageModelConfig:
    """110M parameters over 32,000 subwords, windows of Krause attention; days of GPUs. Not run."""
    return _windowed("krause", layers=12, width=768, heads=12, hidden=2048)


def softmax_100m() -> LanguageModelConfig:
    """The twin of krause-100m: softmax in the same window, with the same top-k. Not run."""
    return _windowed("softmax", layers=12, width=768, heads=12, hidden=2048)


def krause_200m() -> LanguageModelConfig:
    """209M parameters over 32,000 subwords, windows of Krause attention; weeks of GPUs. Not run."""
    return _windowed("krause", layers=14, width=1024, heads=16, hidden=2736)


def softmax_200m() -> LanguageModelConfig:
    """The twin of krause-200m: softmax in the same window, with the same top-k. Not run."""
    return _windowed("softmax", layers=14, width=1024, heads=16, hidden=2736)


def _windowed(mechanism: str, **sizes: Any) -> LanguageModelConfig:
    """A window of 128 keys, of which the 96 best: what was published for models of pixels."""
    attention = AttentionConfig(mechanism=mechanism, window=128, top_k=96)
    return LanguageModelConfig(vocabulary=32_000, attention=attention, **sizes)


PRESETS: dict[str, Callable[[], LanguageModelConfig]] = {
    "0.11M": preset_0_11m,
    "0.36M": preset_0_36m,
    "0.8M": preset_0_8m,
    "1M": preset_1m,
    "5M": preset_5m,
    "10M": preset_10m,
    "85M": preset_85m,
    "krause-100m": krause_100m,
    "softmax-100m": softmax_100m,
    "krause-200m": krause_200m,
    "softmax-200m": softmax_200m,
}


def preset(name: str) -> LanguageModelConfig:
    """The configuration called ``name``; ``ValueError`` names the nearest if there is none."""
    return from_preset("preset", name, PRESETS)
