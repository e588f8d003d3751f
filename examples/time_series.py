"""Your own loop: attention that forecasts a time series, two arms under five seeds.

    python examples/time_series.py

`train_and_score` is all yours: any framework, any data. `resonant.compare` runs it for every arm
and seed, and says which arm is better, by how much, and how small a difference it could have seen.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import resonant
from resonant.lab import Comparison, Run, run_comparison


@dataclass(frozen=True)
class Config:
    """How each arm is trained.

    Args:
        steps: optimiser steps
        lr: learning rate of Adam
        window: values that a forecast is made from
        noise: deviation of what is added to the series
    """

    steps: int = 150
    lr: float = 3e-3
    window: int = 48
    noise: float = 0.1


class Forecaster(nn.Module):
    """The next value from a window of values: an encoder of two layers."""

    def __init__(self, window: int, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.place = nn.Parameter(0.02 * torch.randn(window, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 1)

    def forward(self, window: Tensor) -> Tensor:
        """(batch, time) to (batch)."""
        hidden = self.encoder(self.embed(window.unsqueeze(-1)) + self.place)
        return self.out(hidden[:, -1]).squeeze(-1)


def series(split: str, length: int = 4000) -> Tensor:
    """Two waves, one of which drifts in frequency; each split is another stretch of time."""
    start = {"train": 0, "valid": 20_000, "test": 40_000}[split]
    time = torch.arange(start, start + length, dtype=torch.float64)
    drifting = torch.sin(0.31 * time + 4.0 * torch.sin(time / 170.0))
    return (drifting + 0.5 * torch.sin(0.05 * time)).float()


def windows(split: str, config: Config, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy windows and the true value after each."""
    values = series(split)
    starts = torch.randint(len(values) - config.window - 1, (64,), generator=generator)
    index = starts.unsqueeze(1) + torch.arange(config.window)
    noise = torch.randn(index.shape, generator=generator)
    return values[index] + config.noise * noise, values[starts + config.window]


def train_and_score(arm: str, seed: int, run: Run) -> dict[str, float]:
    """Train one arm under one seed and measure it."""
    config: Config = run.config
    model = Forecaster(config.window)
    if arm != "softmax":
        resonant.swap(model, arm)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    state = run.resume()  # None, or what run.checkpoint kept before this run was killed
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for step in range(0 if state is None else state["step"], config.steps):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        inputs, targets = windows("train", config, generator)
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 50 == 0:
            run.log(step + 1, train_mse=loss)
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            run.checkpoint({"step": step + 1, **kept})
    return {f"{split}_mse": error(model, split, config) for split in ("valid", "test")}


@torch.no_grad()
def error(model: nn.Module, split: str, config: Config) -> float:
    """Mean squared error over windows that are the same for every arm and seed."""
    inputs, targets = windows(split, config, torch.Generator().manual_seed(0))
    return nn.functional.mse_loss(model.eval()(inputs), targets).item()


experiment = Comparison(
    arms={"softmax": "softmax", "krause": "krause"},
    train_and_score=train_and_score,
    control="softmax",
    seeds=5,
    better={"test_mse": "lower", "valid_mse": "lower"},
    config=Config(),
    says="forecasts of a drifting wave",
)

if __name__ == "__main__":
    result = run_comparison(experiment, Path("runs/time-series"))
    print("page:", result.report())
