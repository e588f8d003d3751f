"""A branch of Krause attention in pretrained models, by adapters, beside its controls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..kit.config import RunConfig, TrainingConfig
from ..kit.experiment import Arm, Experiment
from .config import InstructionsConfig
from .model_config import REPLACEMENT, AdaptersModelConfig, BranchAttentionConfig

MECHANISM, START = "model.attention.mechanism", "model.attention.start"


def _arms() -> tuple[Arm, ...]:
    return (
        Arm("lora", "low-rank updates of the pretrained attention and the MLP"),
        Arm(
            "softmax-branch",
            "the same with a branch of softmax attention: 32 keys, of which the best 16",
            control="lora",
            changes={MECHANISM: "softmax"},
        ),
        Arm(
            "krause-branch",
            "the same branch with Krause attention: the nearest 16 of 32 keys",
            control="softmax-branch",
            changes={MECHANISM: "krause"},
        ),
        Arm(
            "krause-branch-mix",
            "the same that has its share at once, as published, not from nothing",
            control="krause-branch",
            changes={START: "mix"},
        ),
    )


def _experiment(name: str, base: str, says: str, training: TrainingConfig) -> Experiment:
    return Experiment(
        name=name,
        says=says,
        base=RunConfig(
            experiment=name,
            model=AdaptersModelConfig(base=base),
            data=InstructionsConfig(),
            training=training,
        ),
        arms=_arms(),
        compared=(("krause-branch", "lora"),),
        unit="nats per token of the response",
    )


SMALL = TrainingConfig(
    steps=400,
    batch_size=16,
    context=128,
    learning_rate=4e-3,
    warmup=40,
    weight_decay=0.0,
    evaluate_every=100,
    evaluation_windows=144,
    sample_tokens=40,
)
LLAMA = _experiment(
    "llama-lora",
    "tiny-llama",
    "what functions do, from their heads: adapters in a Llama of 0.9M parameters",
    SMALL,
)
QWEN = _experiment(
    "qwen-lora",
    "tiny-qwen2",
    "what functions do, from their heads: adapters in a Qwen2 of 0.9M parameters",
    SMALL,
)

SCORES_AS_SOFTMAX = 64**0.25  # sigma at which Krause scores heads of 64 as softmax does, but norms


SMOLLM2_MODEL = AdaptersModelConfig(base="smollm2", precision="bf16")


def _replaced(mechanism: str, **options: Any) -> AdaptersModelConfig:
    """SmolLM2 whose own attention is replaced, with its projections."""
    if mechanism == "krause":
        options["scalars"] = {"sigma": SCORES_AS_SOFTMAX}
    attention = BranchAttentionConfig(mechanism, place=REPLACEMENT, **options)
    return replace(SMOLLM2_MODEL, attention=attention)


def _smollm2_arms() -> tuple[Arm, ...]:
    """Branches, and attention in the place of the pretrained one, all under one mask."""
    return (
        *_arms(),
        Arm(
            "softmax-window",
            "every layer attends by softmax to 32 keys, of which the best 16, healed",
            control="lora",
            model=_replaced("softmax"),
        ),
        Arm(
            "softmax-window-sink",
            "the same with a learned sink",
            control="softmax-window",
            model=_replaced("softmax-sink"),
        ),
        Arm(
            "softmax-window-first",
            "the same whose first 4 tokens stay visible",
            control="softmax-window",
            model=_replaced("softmax", first=4),
        ),
        Arm(
            "krause-window",
            "the same window with Krause attention",
            control="softmax-window",
            model=_replaced("krause"),
        ),
        Arm(
            "krause-window-second",
            "the same in every second layer",
            control="krause-window",
            model=_replaced("krause", layers="second"),
        ),
    )


SMOLLM2 = replace(
    _experiment(
        "smollm2-lora",
        "smollm2",
        "what functions do, from their heads: SmolLM2-135M with branches, and with its attention "
        "replaced; half an hour of one core per run",
        TrainingConfig(
            steps=200,
            batch_size=8,
            context=256,
            learning_rate=2e-3,
            warmup=20,
            weight_decay=0.0,
            evaluate_every=100,
            evaluation_windows=64,
            sample_tokens=40,
        ),
    ),
    arms=_smollm2_arms(),
    compared=(
        ("krause-branch", "lora"),
        ("krause-window", "lora"),
        ("softmax-window-sink", "lora"),
        ("krause-window", "softmax-window-sink"),
    ),
)
SMOLLM2 = replace(
    SMOLLM2,
    base=replace(SMOLLM2.base, model=SMOLLM2_MODEL, data=InstructionsConfig(beside="wikitext-2")),
)

# Rank, scale, dropout, window, top-k, sigma and start are published; the rest is not told there.
_FULL = TrainingConfig(
    steps=2000,
    batch_size=16,
    context=1024,
    learning_rate=1e-4,
    warmup=100,
    weight_decay=0.0,
    evaluate_every=200,
    evaluation_windows=64,
    sample_tokens=128,
)


def _published(name: str, base: str) -> Experiment:
    made = _experiment(
        name, base, f"the published settings, on {base}; a large GPU, not run", _FULL
    )
    published = BranchAttentionConfig(window=32, top_k=16, start="mix")  # and sigma 5.5
    model = replace(
        made.base.model,
        attention=published,
        precision="bf16",
        checkpointing=True,
    )
    arms = tuple(arm for arm in made.arms if START not in arm.changes)
    return replace(made, base=replace(made.base, model=model), arms=arms)


LLAMA_PUBLISHED = _published("llama-lora-published", "meta-llama/Meta-Llama-3-8B")
QWEN_PUBLISHED = _published("qwen-lora-published", "Qwen/Qwen1.5-7B")

EXPERIMENTS = (LLAMA, QWEN, SMOLLM2, LLAMA_PUBLISHED, QWEN_PUBLISHED)
