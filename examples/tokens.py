"""Our loop on your problem: a token model from scratch, three arms under three seeds.

    python examples/tokens.py

You write a model, batches and a loss. Schedule, resuming, curves, the cost of a step, pictures of
attention and the table are the lab's. Runs of `resonant compare examples/tokens.py:experiment` are
opened by `resonant check` and `resonant diagnose` too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import resonant
from resonant.functional import Causal
from resonant.lab import Comparison, Problem, TrainingConfig, run_comparison

BYTES = 256


@cache
def text() -> Tensor:
    """The bytes of a package that every Python has: no data to download."""
    files = sorted(Path(json.__file__).parent.glob("*.py"))
    return torch.frombuffer(bytearray(b"".join(f.read_bytes() for f in files)), dtype=torch.uint8)


class ByteModel(nn.Module):
    """The next byte from those before it."""

    def __init__(self, mechanism: str, window: int | None, width: int, context: int) -> None:
        super().__init__()
        kind = {
            "softmax": resonant.nn.SoftmaxAttention,
            "krause": resonant.nn.KrauseAttention,
        }[mechanism]
        self.embed = nn.Embedding(BYTES, width)
        self.place = nn.Embedding(context, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.layers = nn.ModuleList(
            kind(width, 4, neighborhood=Causal(window=window)) for _ in range(2)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, BYTES))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, token) to (batch, token, byte): logits of the next one."""
        hidden = self.embed(tokens) + self.place(torch.arange(tokens.shape[1]))
        for norm, layer in zip(self.norms, self.layers, strict=True):
            hidden = hidden + layer(norm(hidden))[0]
        return self.out(hidden)


@dataclass(eq=False)
class NextByte(Problem):
    """Next-byte prediction on the source of Python's json package.

    Args:
        width: of the model
    """

    unit: ClassVar[str] = "nats per byte"
    token: ClassVar[str] = "sequence"
    width: int = 64

    def model(self, arm: Mapping[str, Any]) -> nn.Module:
        """The model of an arm: its mechanism and window."""
        return ByteModel(arm["mechanism"], arm["window"], self.width, self.training.context)

    def batch(self, split: str, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets: the first 8 tenths are for training, a tenth each for the rest."""
        tenth, context = len(text()) // 10, self.training.context
        start, end = {"train": (0, 8), "valid": (8, 9), "test": (9, 10)}[split]
        part = text()[start * tenth : end * tenth]
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        starts = torch.randint(
            len(part) - context - 1, (self.training.batch_size,), generator=generator
        )
        tokens = part[starts.unsqueeze(1) + torch.arange(context + 1)].long()
        return tokens[:, :-1], tokens[:, 1:]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross-entropy in nats per byte."""
        inputs, targets = batch
        return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    def metrics(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
        """The share of bytes predicted right."""
        inputs, targets = batch
        return {"accuracy": (model(inputs).argmax(-1) == targets).float().mean().item()}


experiment = Comparison(
    arms={
        "softmax": {"mechanism": "softmax", "window": None},
        "softmax-window": {"mechanism": "softmax", "window": 16},
        "krause-window": {"mechanism": "krause", "window": 16},
    },
    train_and_score=NextByte(
        training=TrainingConfig(steps=200, batch_size=16, context=64, warmup=20, evaluate_every=50)
    ),
    control="softmax-window",
    better={"test_loss": "lower", "test_accuracy": "higher"},
    says="the next byte of Python's json package",
)

if __name__ == "__main__":
    result = run_comparison(experiment, Path("runs/tokens"))
    print("page:", result.report())
