"""A run as data: everything its result depends on, and a hash of it. No torch here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from ...errors import UserError
from ...models.fields import check_choice, check_least, from_dict

PRECISIONS = ("float32", "bf16")
ALWAYS = ("architecture", "name")  # in every hash: they say which class a configuration is of
D = TypeVar("D", bound="Data")
# (part of a run, its plain values) -> the class they are of: ``domains.resolve``.
Resolve = Callable[[str, Mapping[str, Any]], type]


@dataclass(frozen=True)
class Data:
    """What configurations of data are made of: frozen, with a ``name`` that is one of ``NAMES``."""

    NAMES: ClassVar[tuple[str, ...]] = ()
    if TYPE_CHECKING:
        name: str

    def trained_on(self: D) -> D:
        """The data without what is only tested on."""
        return self


@runtime_checkable
class Model(Protocol):
    """A configuration of a model: a frozen dataclass with a default ``architecture``."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def architecture(self) -> str: ...


@dataclass(frozen=True)
class TrainingConfig:
    """How a run is trained and measured.

    Args:
        steps: optimiser steps; 0 measures what there is before any
        batch_size: sequences per step
        context: tokens per sequence (of a text)
        learning_rate: peak of AdamW's rate, reached after the warm-up, then a cosine to a tenth
        warmup: steps of linear warm-up
        weight_decay: on matrices; never on norms or learned scalars
        clip: largest norm of the gradient
        evaluate_every: steps between evaluations, each a row of metrics.csv and a checkpoint
        evaluation_windows: windows or utterances of the validation split (4 times that for test)
        sample_tokens: length of the text sample taken at the end
        accumulate: equal parts that a batch is read in, one after another: a part's memory, the
            whole batch's gradient
        precision: of products in training, float32, or bf16 by autocast (weights, sums and what is
            measured stay in float32)
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
    accumulate: int = 1
    precision: str = "float32"

    def __post_init__(self) -> None:
        least = {"steps": 0, "batch_size": 1, "context": 1, "warmup": 0, "evaluate_every": 1}
        least |= {"evaluation_windows": 1, "sample_tokens": 0, "weight_decay": 0, "accumulate": 1}
        check_least("training", self, least)
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"training.accumulate cuts a batch into equal parts; {self.accumulate} does not "
                f"divide training.batch_size {self.batch_size}"
            )
        check_choice("training.precision", self.precision, PRECISIONS)
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training.{name} must be above 0; it is {getattr(self, name)}")

    def evaluated(self, split: str) -> int:
        """Windows, utterances or images of ``split`` that are measured, at most."""
        return self.evaluation_windows * (4 if split == "test" else 1)


@dataclass(frozen=True)
class RunConfig:
    """One training: one arm of an experiment under one seed.

    Args:
        experiment: the experiment it belongs to
        arm: which of its arms
        seed: of initialisation, batches and dropout
        plugins: modules imported first, for mechanisms of your own
        corpus: hash of the text, filled in when the run is planned
        sources: hash of the plugins' code, filled in when the run is planned
        base: hash of the pretrained weights and their tokenizer, filled in likewise
    """

    experiment: str = "stdlib"
    arm: str = "softmax"
    seed: int = 0
    plugins: tuple[str, ...] = ()
    corpus: str = ""
    sources: str = ""
    base: str = ""
    model: Model = field(kw_only=True)
    data: Data = field(kw_only=True)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @property
    def name(self) -> str:
        """The run's folder."""
        return f"{self.arm}-seed{self.seed}"


def run_config(values: Mapping[str, Any], resolve: Resolve) -> RunConfig:
    """A ``RunConfig`` from plain values (YAML, JSON), whose classes ``resolve`` finds.

    Raises ``ValueError`` for a part that is missing, a class or a field that there is not.
    """
    built = dict(values)
    for part in ("model", "data"):
        if not isinstance(values.get(part), Mapping):
            raise ValueError(f"a run's configuration has no named fields under {part!r}")
        built[part] = from_dict(resolve(part, values[part]), values[part])
    return from_dict(RunConfig, built)


def config_hash(config: RunConfig) -> str:
    """SHA-256 of what the configuration says, as canonical JSON."""
    return _sha256(said(config))


def digest(recipe: int, config: Data) -> str:
    """SHA-256 of made-up data: the number of their recipe and what their configuration says."""
    return _sha256([recipe, said(config)])


def said(config: Any) -> dict[str, Any]:
    """The fields of a configuration that are not at their defaults, nested ones likewise.

    Names of classes (``ALWAYS``) are always said. So a field that is added with a default, which
    means what was so before, changes no hash.
    """
    found = {}
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if each.name in ALWAYS or value != _default(each):
            found[each.name] = said(value) if dataclasses.is_dataclass(value) else value
    return found


def _default(field: dataclasses.Field) -> Any:
    """``MISSING`` where there is none."""
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _sha256(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def check_corpus(config: RunConfig, digest: str, what: str) -> None:
    """Raise ``UserError`` if data (``what`` in words) are not those the run was planned for."""
    if config.corpus not in ("", digest):
        raise UserError(
            f"the {what} behind {config.data.name!r} changed since this run was planned (hash "
            f"{digest[:12]}, planned {config.corpus[:12]}); run the comparison anew"
        )


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


def replaced(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """``config`` with fields replaced by dotted name; its parts stay of their classes."""
    values = dataclasses.asdict(config)
    for name, value in changes.items():
        *path, last = name.split(".")
        target = values
        for part in path:
            target = target[part]
        target[last] = value
    return run_config(values, lambda part, _: type(getattr(config, part)))
