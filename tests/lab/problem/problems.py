"""Problems of one's own that train in seconds: what a user's module would hold."""

import random
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import resonant
from resonant.functional import Causal
from resonant.lab import Comparison, Problem, TrainingConfig

TRAINING = TrainingConfig(steps=6, batch_size=4, context=12, warmup=2, evaluate_every=3)


class Reader(nn.Module):
    """Ten symbols in, ten logits out, by one layer of attention, with dropout."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        near = Causal() if causal else resonant.Full()
        self.embed = nn.Embedding(10, width)
        self.attention = resonant.nn.SoftmaxAttention(width, 2, neighborhood=near)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, token) to (batch, token, symbol)."""
        hidden = self.embed(tokens)
        return self.out(hidden + self.drop(self.attention(hidden)[0]))


@dataclass(eq=False)
class Copying(Problem):
    """The symbol before.

    Args:
        width: of the model
    """

    unit: ClassVar[str] = "nats"
    token: ClassVar[str] = "row"
    width: int = 8
    valid_batches: int = 2
    test_batches: int = 2

    def model(self, arm: Any) -> nn.Module:
        """The model of an arm, which says whether it is causal."""
        return Reader(self.width, arm["causal"])

    def batch(self, split: str, seed: int, step: int) -> dict[str, Tensor]:
        """Random symbols; the target is the one before."""
        salt = {"train": 1, "valid": 2, "test": 3}[split]
        generator = torch.Generator().manual_seed(salt * 1_000_003 + seed * 10_007 + step)
        shape = (self.training.batch_size, self.training.context)
        tokens = torch.randint(10, shape, generator=generator)
        return {"tokens": tokens, "targets": tokens.roll(1, 1)}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy."""
        logits = model(batch["tokens"])
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())

    def metrics(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Any]:
        """The share of right symbols."""
        right = model(batch["tokens"]).argmax(-1) == batch["targets"]
        return {"accuracy": right.float().mean()}


experiment = Comparison(
    arms={"causal": {"causal": True}, "full": {"causal": False}},
    train_and_score=Copying(training=TRAINING),
    better={"test_accuracy": "higher"},
    says="the symbol before",
)


class Wrong(Problem):
    """A problem whose methods go wrong as its arm says."""

    def model(self, arm: Any) -> Any:
        """No module, an error, or a line."""
        if arm == "no module":
            return 3
        if arm == "lazy":
            return nn.LazyLinear(1)
        if arm == "raises":
            raise RuntimeError("no memory")
        self.arm = arm
        return nn.Linear(2, 1)

    def batch(self, split: str, seed: int, step: int) -> Any:
        """Ones, or no batch."""
        if self.arm == "no batch" and split == "valid":
            raise KeyError(split)
        return torch.ones(4, 2)

    def loss(self, model: nn.Module, batch: Tensor) -> Any:
        """A mean, or none."""
        found = model(batch).square()
        return {"no mean": found, "a float": 0.5, "nan": found.mean() * float("nan")}.get(
            self.arm, found.mean()
        )

    def metrics(self, model: nn.Module, batch: Tensor) -> dict[str, Any]:
        """A loss once more, or nothing."""
        if self.arm == "some" and len(self.measured) % 2:
            self.measured.append(1)
            return {"accuracy": 1.0}
        self.measured.append(0)
        return {"loss": 1.0} if self.arm == "loss" else {}

    measured: ClassVar[list[int]] = []

    def inputs(self, batch: Tensor) -> Any:
        """The batch, or no tensor."""
        return "abc" if self.arm == "no inputs" else batch

    def count(self, batch: Tensor) -> Any:
        """Four, or none."""
        return 0.5 if self.arm == "no count" else 4


@dataclass(frozen=True)
class Sizes:
    """Nested fields.

    Args:
        width: of the model
    """

    width: int = 8


@dataclass(eq=False)
class Nested(Copying):
    """A problem with fields that are no plain values.

    Args:
        sizes: of the model
        shape: of nothing
    """

    sizes: Sizes = Sizes()
    shape: tuple[int, ...] = (1, 2)

    def model(self, arm: Any) -> nn.Module:
        """The model of an arm."""
        return Reader(self.sizes.width, arm["causal"])


@dataclass(eq=False)
class Drawing(Copying):
    """A problem whose steps draw from the generators of Python and numpy."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy, times what is drawn."""
        return super().loss(model, batch) * (0.5 + random.random() + np.random.rand())


class Bare(Problem):
    """One that never calls the constructor of problems."""

    def __init__(self) -> None:
        pass


nested = Comparison(
    arms={"causal": {"causal": True}},
    train_and_score=Nested(training=TRAINING),
    seeds=1,
)
drawing = Comparison(
    arms={"causal": {"causal": True}},
    train_and_score=Drawing(training=TRAINING),
    seeds=1,
)
