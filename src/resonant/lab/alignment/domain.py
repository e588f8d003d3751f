"""Alignment of symbols with frames as a domain."""

from __future__ import annotations

from pathlib import Path

from ...models.frame_configs import FrameTransformerConfig
from ..kit.domain import WHOLE_BATCHES, Described, Domain
from .config import SymbolsConfig
from .experiments import EXPERIMENTS
from .fitting import check_frames_fit


def describe(config: SymbolsConfig, data_dir: Path | None) -> Described:
    """The hash of the recipe, and what utterances are."""
    del data_dir  # made up
    return Described(config.digest(), config.describe())


DOMAIN = Domain(
    name="alignment",
    data=(SymbolsConfig,),
    models=(FrameTransformerConfig,),
    experiments=EXPERIMENTS,
    task="resonant.lab.alignment.task:AlignmentTask",
    describe="resonant.lab.alignment.domain:describe",
    sections="resonant.lab.alignment.report:SECTIONS",
    check=check_frames_fit,
    unread={
        **WHOLE_BATCHES,
        "training.context": "; utterances have their length from --data.longest",
        "training.sample_tokens": "; nothing is written",
    },
)
