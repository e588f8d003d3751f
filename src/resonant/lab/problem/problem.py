"""A problem of one's own: a model, batches and a loss; the loop and all else is the lab's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from ..kit.config import TrainingConfig


@dataclass(eq=False)
class Problem:
    """What `resonant.compare` trains by its own loop: subclass it, fields are its options.

    AdamW under a warm-up and a cosine, gradients clipped; resumed to the bit; curves, time, memory
    and FLOPs of a step; attention inside the model looked into. The generators of Python, numpy
    and torch start from the seed before the model is made and stand in checkpoints; one of your
    own does not, so make it of seed and step.

    Args:
        training: steps, learning rate and what else `TrainingConfig` says; ``batch_size`` and
            ``context`` mean what your ``batch`` makes of them
        valid_batches: batches of the validation split that are measured
        test_batches: batches of the test split that are measured

    A subclass that is a dataclass adds fields of its own, each with a default. ``unit`` and
    ``token`` of the class say what losses are in, and what ``count`` counts.
    """

    unit: ClassVar[str] = "the unit of the problem's loss"
    token: ClassVar[str] = "example"

    training: TrainingConfig = field(default_factory=TrainingConfig, kw_only=True)
    valid_batches: int = field(default=8, kw_only=True)
    test_batches: int = field(default=32, kw_only=True)

    def model(self, arm: Any) -> nn.Module:
        """Build the model of an arm, whose value ``arm`` is."""
        raise NotImplementedError(f"{type(self).__name__} has no method model(arm)")

    def batch(self, split: str, seed: int, step: int) -> Any:
        """Make a batch of "train", "valid" or "test": the same one for the same arguments.

        Those of "valid" and "test" are asked for with seed 0 and steps from 0, so that every run
        is measured on the same ones.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method batch(split, seed, step)")

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Compute the mean loss of a batch, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} has no method loss(model, batch)")

    def metrics(self, model: nn.Module, batch: Any) -> Mapping[str, Any]:
        """Measure further numbers of a batch by name; their means over batches are compared."""
        return {}

    def inputs(self, batch: Any) -> Tensor:
        """Take out of a batch what the model is called with, for pictures and certificates.

        The first tensor of the batch, unless you say otherwise.
        """
        return first_tensor(batch)

    def count(self, batch: Any) -> int:
        """Count what a batch holds, for the table of cost: rows of its first tensor."""
        return len(first_tensor(batch))


def first_tensor(batch: Any) -> Tensor:
    """The first tensor in a batch of nested tuples, lists and dicts.

    Raises ``ValueError`` if there is none.
    """
    for each in _leaves(batch):
        if isinstance(each, Tensor):
            return each
    raise ValueError(
        f"a batch of {type(batch).__name__} holds no tensor; define inputs(batch) and count(batch)"
    )


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    if isinstance(value, (list, tuple)):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value]
