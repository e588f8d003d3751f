"""Speech as a domain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...models.frame_configs import SpeechTransformerConfig
from ..kit.config import RunConfig
from ..kit.domain import WHOLE_BATCHES, Described, Domain
from .config import SpeechConfig
from .experiments import EXPERIMENTS
from .fitting import check_speech_fits


def describe(config: SpeechConfig, data_dir: Path | None) -> Described:
    """The hash of the speech, and who says how much; spoken here where the cache lacks it."""
    from . import corpus  # packages of an extra

    made = corpus.load_speech(config, data_dir)
    return Described(made.digest, corpus.describe(made))


def prepare(configs: Sequence[RunConfig], data_dir: Path | None) -> None:
    """Teach the recognizers of phonemes that the cache lacks."""
    from .corpus import load_speech  # packages of an extra
    from .recognizer import load_recognizer

    for config in {each.data: None for each in configs}:
        assert isinstance(config, SpeechConfig)
        load_recognizer(load_speech(config, data_dir))


DOMAIN = Domain(
    name="speech",
    data=(SpeechConfig,),
    models=(SpeechTransformerConfig,),
    experiments=EXPERIMENTS,
    task="resonant.lab.speech.task:SpeechTask",
    describe="resonant.lab.speech.domain:describe",
    sections="resonant.lab.speech.report:SECTIONS",
    prepare="resonant.lab.speech.domain:prepare",
    check=check_speech_fits,
    unread={
        **WHOLE_BATCHES,
        "training.context": "; utterances are as long as they are spoken, up to --data.longest",
        "training.sample_tokens": "; nothing is written",
    },
    commands={"speak": ("resonant.lab.speech.speak", "sound from a trained model of speech")},
)
