"""What each mechanism can do by itself: five abilities, each in a minute.

Nothing to download. Four abilities are asked of causal models of tokens: recall (which value had
this key?), induction (what followed this symbol before?), copying, clustering (which group is a new
point of?). The fifth, alignment, is asked of cross-attention from frames to symbols.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...models.frame_configs import CrossAttentionConfig, FrameTransformerConfig
from ...models.language_configs import AttentionConfig, LanguageModelConfig
from ...models.phase_configs import OSCILLATORS, PhaseLanguageModelConfig
from ..alignment.config import SymbolsConfig
from ..alignment.experiments import HIDDEN
from ..kit.config import Model, RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from ..text.phases import phase_models
from .config import ABILITIES, AbilityConfig

TRANSFORMER = LanguageModelConfig(vocabulary=96)
# The phase adapter has half as many phases as features: the feed-forward layer gets what it saves.
ADAPTER = replace(TRANSFORMER, attention=AttentionConfig("kuramoto"), hidden=203)
PHASES = PhaseLanguageModelConfig(vocabulary=96, heads=8, hidden=102)
FRAMES = FrameTransformerConfig()
CROSS_NAMES = {"mixture": "gaussian-mixture", "kuramoto-adapter": "kuramoto"}
TRAINING = TrainingConfig(
    steps=600,
    batch_size=32,
    learning_rate=4e-3,
    warmup=60,
    evaluate_every=100,
    evaluation_windows=128,
    sample_tokens=0,
)


def _mechanisms() -> list[tuple[str, str, str, dict[str, Any], Model | None]]:
    """Mechanism, what it is, its control, what it changes, its model."""
    gate, position = "model.attention.gate", "model.position.kind"
    krause = {"model.attention.mechanism": "krause"}
    return [
        ("softmax-gate", "an energy gate", "softmax", {gate: "energy"}, None),
        ("softmax-morlet", "relative Morlet", "softmax", {position: "morlet-relative"}, None),
        ("krause", "Krause attention", "softmax", krause, None),
        ("krause-top8", "the 8 nearest keys only", "krause", {"model.attention.top_k": 8}, None),
        ("kuramoto-adapter", "phases inside a transformer", "softmax", {}, ADAPTER),
        ("kuramoto", "the phase language model", "softmax", {}, PHASES),
    ]


def _token_arms(ability: str) -> list[Arm]:
    named = {} if ability == ABILITIES[0] else {"data.name": ability}
    arms = [Arm(f"softmax-{ability}", f"{ability}: softmax attention", changes=named)]
    for name, says, control, changes, model in _mechanisms():
        full, versus = f"{name}-{ability}", f"{control}-{ability}"
        arms.append(Arm(full, f"{ability}: {says}", versus, changes=changes, model=model))
    return arms


def _alignment_arms() -> list[Arm]:
    """Cross-attention from frames to symbols; what a mechanism saves goes to the decoder."""
    hidden = {
        "krause": 128,
        "kuramoto-adapter": 170,
        "mixture": HIDDEN["gaussian-mixture"],
        "clock": HIDDEN["clock"],
    }
    first = "softmax-alignment"
    fewer = replace(TRAINING, batch_size=8)  # utterances of some 100 frames
    arms = [Arm(first, "alignment: softmax", model=FRAMES, data=SymbolsConfig(), training=fewer)]
    for name, size in hidden.items():
        mechanism = CROSS_NAMES.get(name, name)
        cross = CrossAttentionConfig(mechanism=mechanism)
        model = replace(FRAMES, attention=cross, hidden=size)
        arms.append(Arm(f"{name}-alignment", f"alignment: {mechanism}", first, model=model))
    return arms


EXPERIMENT = Experiment(
    name="probes",
    says="five abilities, two layers of width 64: recall, induction, copying, clustering, "
    "alignment; about a minute of one core per run",
    base=RunConfig(
        experiment="probes",
        model=TRANSFORMER,
        data=AbilityConfig(),
        training=TRAINING,
    ),
    arms=(*(arm for ability in ABILITIES for arm in _token_arms(ability)), *_alignment_arms()),
    unit="nats per answer, of alignment squared error per number of a frame",
    scores={**dict.fromkeys(ABILITIES, "accuracy"), "alignment": "correct@1"},
)


def _phase_arms(ability: str) -> list[Arm]:
    first, named = f"softmax-{ability}", {"data.name": ability}
    waves, kind = (
        {"model.position.oscillators": OSCILLATORS},
        {"model.position.kind": "rotary-biased"},
    )
    arms = [
        Arm(first, f"{ability}: softmax attention", changes=named),
        Arm(f"softmax-oscillators-{ability}", f"{ability}: oscillators", first, changes=waves),
        Arm(f"softmax-biased-{ability}", f"{ability}: rotary with biases", first, changes=kind),
    ]
    models = {"kuramoto": ("the phase language model", PHASES)}
    models |= {f"kuramoto-{n}": each for n, each in phase_models(PHASES, 99).items()}
    for name, (says, model) in models.items():
        arms.append(Arm(f"{name}-{ability}", f"{ability}: {says}", first, model=model))
    return arms


PHASE_PROBES = replace(
    EXPERIMENT,
    name="phase-probes",
    says="induction and copying by phase models and transformers, with reference oscillators and "
    "without; about a minute of one core per run",
    base=replace(EXPERIMENT.base, experiment="phase-probes"),
    arms=tuple(arm for ability in ("induction", "copying") for arm in _phase_arms(ability)),
    unit="nats per answer",
    scores=dict.fromkeys(("induction", "copying"), "accuracy"),
)

EXPERIMENTS = (EXPERIMENT, PHASE_PROBES)
