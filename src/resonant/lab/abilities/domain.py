"""Abilities as a domain."""

from __future__ import annotations

from pathlib import Path

from ...models.language_configs import LanguageModelConfig
from ...models.phase_configs import PhaseLanguageModelConfig
from ..kit.domain import WHOLE_BATCHES, Described, Domain
from .config import AbilityConfig
from .experiments import EXPERIMENTS


def describe(config: AbilityConfig, data_dir: Path | None) -> Described:
    """The hash of the recipe, and what sequences ask for."""
    del data_dir  # made up
    return Described(config.digest(), config.describe())


DOMAIN = Domain(
    name="abilities",
    data=(AbilityConfig,),
    models=(LanguageModelConfig, PhaseLanguageModelConfig),
    experiments=EXPERIMENTS,
    task="resonant.lab.abilities.task:AbilitiesTask",
    describe="resonant.lab.abilities.domain:describe",
    sections="resonant.lab.abilities.report:SECTIONS",
    unread={
        **WHOLE_BATCHES,
        "training.context": "; sequences have their length from --data.length",
        "training.sample_tokens": "; nothing is written",
    },
)
