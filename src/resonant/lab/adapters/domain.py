"""Adapters of pretrained language models as a domain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..kit.config import RunConfig
from ..kit.domain import WHOLE_BATCHES, Described, Domain
from .config import InstructionsConfig
from .experiments import EXPERIMENTS
from .model_config import AdaptersModelConfig, kept_bases


def describe(config: InstructionsConfig, data_dir: Path | None) -> Described:
    """The hash of prompts and responses, and how many there are."""
    from . import instructions

    del data_dir  # a file of their own, or Python's library
    found = instructions.load_instructions(config)
    return Described(found.digest, instructions.describe(found))


def digest_of_base(config: RunConfig) -> str:
    """The hash of the files of the pretrained model and its tokenizer.

    "" for the bases that are kept: their names say what they are made of.
    """
    assert isinstance(config.model, AdaptersModelConfig)
    if config.model.base in kept_bases():
        return ""
    from .bases import digest_of_files  # transformers

    return digest_of_files(config.model.base)


def prepare(configs: Sequence[RunConfig], data_dir: Path | None) -> None:
    """Make the base models that the cache lacks."""
    from .bases import base_folder  # transformers

    models = [each.model for each in configs]
    bases = {model.base for model in models if isinstance(model, AdaptersModelConfig)}
    for base in sorted(bases & {*kept_bases()}):
        base_folder(base, data_dir)


DOMAIN = Domain(
    name="adapters",
    data=(InstructionsConfig,),
    models=(AdaptersModelConfig,),
    experiments=EXPERIMENTS,
    task="resonant.lab.adapters.task:AdaptersTask",
    describe="resonant.lab.adapters.domain:describe",
    sections="resonant.lab.adapters.report:SECTIONS",
    runner="resonant.lab.adapters.trainer:TrainerRun",
    base="resonant.lab.adapters.domain:digest_of_base",
    commands={
        "sinks": (
            "resonant.lab.adapters.sinks",
            "what a language model keeps its first token for, and loses in windows",
        )
    },
    prepare="resonant.lab.adapters.domain:prepare",
    unread=WHOLE_BATCHES | {"training.precision": "; it is --model.precision here"},
)
