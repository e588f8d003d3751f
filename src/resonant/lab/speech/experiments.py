"""Which attention aligns phonemes with frames of speech, at tempi it was not trained on?

eSpeak NG speaks short phrases and says where each phoneme ends.
"""

from __future__ import annotations

from dataclasses import replace

from ...models.frame_configs import SpeechTransformerConfig, speech_full, speech_small
from ..alignment.experiments import GUIDES, LISTENING, softmax_arms, timed, unplaced_arms
from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from .config import SpeechConfig

# Clocks and mixtures have no queries and keys: the decoder's feed-forward layers get what they
# save.
HIDDEN = {
    "small": {"clock": 253, "gaussian-mixture": 244, "forward": 191, "listening": 211},
    "full": {"clock": 1192, "gaussian-mixture": 1183, "forward": 1023, "listening": 1149},
}


def baseline_arms(model: SpeechTransformerConfig, hidden: dict[str, int]) -> tuple[Arm, ...]:
    """All frames at once, their number given: what clocks are compared with."""
    return (
        *softmax_arms("phonemes", GUIDES),
        Arm(
            "mixture",
            "Gaussian mixtures that move along the phonemes",
            control="softmax",
            model=timed(model, "gaussian-mixture", hidden),
        ),
    )


def clock_arms(model: SpeechTransformerConfig, hidden: dict[str, int]) -> tuple[Arm, ...]:
    """All frames at once by normalized clocks, and one change to them each."""
    return (
        Arm(
            "clock",
            "normalized clocks, score frozen",
            control="softmax",
            model=timed(model, "clock", hidden),
        ),
        Arm(
            "clock-measure",
            "a phoneme weighs by the time it takes",
            control="clock",
            changes={"model.attention.measure": True},
        ),
        Arm(
            "clock-interval",
            "the probability of meeting inside a phoneme",
            control="clock",
            changes={"model.attention.score": "interval"},
        ),
    )


def autoregressive_arms(model: SpeechTransformerConfig, hidden: dict[str, int]) -> tuple[Arm, ...]:
    """Frame by frame, each seeing those before it."""
    running = replace(model, decoding="autoregressive")
    return (
        Arm("next-softmax", "softmax with sinusoidal positions, frame by frame", model=running),
        Arm(
            "next-clock",
            "clocks that run on, score frozen",
            control="next-softmax",
            model=timed(running, "clock", hidden),
        ),
        *unplaced_arms(running, hidden),
    )


def experiment(name: str, says: str, base: RunConfig, hidden: dict[str, int]) -> Experiment:
    """The arms at one size on one kind of data."""
    model = base.model
    assert isinstance(model, SpeechTransformerConfig)
    return Experiment(
        name=name,
        says=says,
        base=base,
        arms=(
            *baseline_arms(model, hidden),
            *clock_arms(model, hidden),
            *autoregressive_arms(model, hidden),
        ),
        unit="squared error per number of a frame",
        token="frame",
        compared=(
            *(("clock", f"softmax-{each}") for each in ("scaled", "guided", "guided-10")),
            ("clock", "mixture"),
            *LISTENING,
        ),
    )


EXPERIMENT = experiment(
    "speech",
    "phonemes to mel spectrograms of eSpeak NG, 0.46M parameters; the true alignment is known",
    RunConfig(
        experiment="speech",
        model=speech_small(),
        data=SpeechConfig(),
        training=TrainingConfig(
            steps=1500,
            batch_size=16,
            learning_rate=2e-3,
            evaluate_every=150,
            evaluation_windows=32,
        ),
    ),
    HIDDEN["small"],
)

FULL = experiment(
    "speech-full",
    "phonemes to 80 bands of LJ Speech, 12M parameters; for a GPU, not run here",
    RunConfig(
        experiment="speech-full",
        model=speech_full(),
        data=SpeechConfig(name="ljspeech", bands=80, hop=256, longest=10.0, utterances=20_000),
        training=TrainingConfig(
            steps=100_000,
            batch_size=32,
            learning_rate=5e-4,
            warmup=1000,
            evaluate_every=2000,
            evaluation_windows=32,
        ),
    ),
    HIDDEN["full"],
)

EXPERIMENTS = (EXPERIMENT, FULL)
