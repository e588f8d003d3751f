"""A run as data: everything its result depends on, and a hash of it. No torch here."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from dataclasses import dataclass, field
from typing import Any

from ..data.configs import Data, DataConfig
from ..errors import UserError
from ..models.configs import LanguageModelConfig, ModelConfig
from ..models.fields import check_least, from_dict


@dataclass(frozen=True)
class TrainingConfig:
    """How a run is trained and measured.

    Args:
        steps: optimiser steps
        batch_size: sequences per step
        context: tokens per sequence (of a text)
        learning_rate: peak of AdamW's rate, reached after the warm-up, then a cosine to a tenth
        warmup: steps of linear warm-up
        weight_decay: on matrices; never on norms or learned scalars
        clip: largest norm of the gradient
        evaluate_every: steps between evaluations, each a row of metrics.csv and a checkpoint
        evaluation_windows: windows or utterances of the validation split (4 times that for test)
        sample_tokens: length of the text sample taken at the end
    """

    steps: int = 600
    batch_size: int = 16
    context: int = 128
    learning_rate: float = 4e-3
    warmup: int = 50
    weight_decay: float = 0.1
    clip: float = 1.0
    evaluate_every: int = 100
    evaluation_windows: int = 64
    sample_tokens: int = 300

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "context": 1, "warmup": 0, "evaluate_every": 1}
        least |= {"evaluation_windows": 1, "sample_tokens": 0, "weight_decay": 0}
        check_least("training", self, least)
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training.{name} must be above 0; it is {getattr(self, name)}")


@dataclass(frozen=True)
class RunConfig:
    """One training: one arm of an experiment under one seed.

    Args:
        experiment: the experiment it belongs to
        arm: which of its arms
        seed: of initialisation, batches and dropout
        plugins: modules imported first, for mechanisms of your own
        corpus: hash of the text, filled in when the run is planned
    """

    experiment: str = "stdlib"
    arm: str = "softmax"
    seed: int = 0
    plugins: tuple[str, ...] = ()
    corpus: str = ""
    model: ModelConfig = field(default_factory=LanguageModelConfig)
    data: Data = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @property
    def name(self) -> str:
        """The run's folder."""
        return f"{self.arm}-seed{self.seed}"


def run_config(values: dict[str, Any]) -> RunConfig:
    """A ``RunConfig`` from plain values (YAML, JSON)."""
    return from_dict(RunConfig, values)


def import_plugins(names: tuple[str, ...]) -> None:
    """Import a user's modules, which register mechanisms.

    Raises ``UserError`` for one that cannot be imported.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"cannot import the plugin {name!r} ({error}); plugins are module names on "
                "Python's path, so run from the folder that holds it or install it"
            ) from error


def config_hash(config: RunConfig) -> str:
    """SHA-256 of the configuration as canonical JSON."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def plain(config: RunConfig) -> dict[str, Any]:
    """Every field of the configuration by its dotted name."""
    return flatten(dataclasses.asdict(config))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted name, old, new) wherever two nested configurations differ."""
    left, right = flatten(old), flatten(new)
    names = sorted(left.keys() | right.keys())
    return [
        (name, left.get(name), right.get(name))
        for name in names
        if left.get(name) != right.get(name)
    ]


def replaced(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    """``config`` with fields replaced by dotted name."""
    values = dataclasses.asdict(config)
    for name, value in changes.items():
        *path, last = name.split(".")
        target = values
        for part in path:
            target = target[part]
        target[last] = value
    return run_config(values)
