"""Text as a domain."""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from ...models.language_configs import LanguageModelConfig
from ...models.phase_configs import PhaseLanguageModelConfig
from ..kit.config import RunConfig
from ..kit.domain import Described, Domain
from .config import TextConfig
from .experiments import EXPERIMENTS


def check_context_fits(config: RunConfig) -> None:
    """Raise ``UserError`` for windows longer than the positions that a model learns."""
    model, context = config.model, config.training.context
    assert isinstance(model, (LanguageModelConfig, PhaseLanguageModelConfig))
    position = model.position
    if position.kind == "learned" and context > position.max_length:
        raise UserError(
            f"{config.arm} learns {position.max_length} positions, but training.context is "
            f"{context}; pass --model.position.max_length {context}"
        )


def describe(config: TextConfig, data_dir: Path | None) -> Described:
    """The text's hash, name and size."""
    from . import corpus  # numpy

    found = corpus.load_corpus(config, data_dir)
    return Described(found.digest, corpus.describe(found))


DOMAIN = Domain(
    name="text",
    data=(TextConfig,),
    models=(LanguageModelConfig, PhaseLanguageModelConfig),
    experiments=EXPERIMENTS,
    task="resonant.lab.text.task:TextTask",
    describe="resonant.lab.text.domain:describe",
    sections="resonant.lab.text.report:SECTIONS",
    reader="resonant.lab.text.reading:open_text_model",
    check=check_context_fits,
    commands={"sample": ("resonant.lab.text.sample", "text from a trained model")},
)
