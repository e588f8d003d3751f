"""Fitting a curve to points as a task."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from resonant.files import MODEL_CONFIG, WEIGHTS
from resonant.lab.kit.building import built
from resonant.lab.kit.config import RunConfig, check_corpus
from resonant.lab.kit.summary import model_summary
from resonant.lab.kit.task import Outcome

from .config import CurveConfig, LineConfig, WaveConfig

CURVE = "curve.npz"  # in a run's folder: what its picture needs
SEEDS = {"valid": 1, "test": 2}
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def build(config: CurveConfig | LineConfig) -> nn.Module:
    """Build the network that ``config`` describes."""
    if isinstance(config, LineConfig):
        return nn.Linear(1, 1, bias=config.offset)
    activation = ACTIVATIONS[config.activation]()
    return nn.Sequential(nn.Linear(1, config.width), activation, nn.Linear(config.width, 1))


class CurveTask:
    """Mean squared errors of a network at points on a wave."""

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        del data_dir  # made up
        assert isinstance(config.data, WaveConfig)
        check_corpus(config, config.data.digest(), "points")
        self.config, self.data, self.device = config, config.data, torch.device(device)
        self.model = built(config, build, self.device)

    @property
    def tokens_per_step(self) -> int:
        """Points per training step."""
        return self.config.training.batch_size

    def _points(self, seed: list[int], count: int, noise: float) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng(seed)
        x = torch.from_numpy(generator.uniform(-1, 1, (count, 1))).float()
        drawn = torch.from_numpy(generator.normal(0, 1, (count, 1))).float()
        return x, torch.sin(self.data.frequency * x) + noise * drawn

    def _error(self, seed: list[int], count: int, noise: float = 0.0) -> Tensor:
        x, y = (each.to(self.device) for each in self._points(seed, count, noise))
        return (self.model(x) - y).square().mean()

    def loss(self, step: int) -> Tensor:
        """The error at the points of ``step``."""
        count = self.config.training.batch_size
        return self._error([0, self.config.seed, step], count, self.data.noise)

    @torch.no_grad()
    def evaluate(self, split: str) -> float:
        """The error at the fixed points of ``split``, without noise."""
        return self._error([SEEDS[split]], self.config.training.evaluated(split)).item()

    @torch.no_grad()
    def finish(self) -> Outcome:
        """Errors, the error in the middle, and the curve."""
        x = torch.linspace(-1, 1, 41).unsqueeze(1)
        made, true = self.model(x.to(self.device)).cpu(), torch.sin(self.data.frequency * x)
        metrics = {"valid_loss": self.evaluate("valid"), "test_loss": self.evaluate("test")}
        metrics["middle"] = (made[20] - true[20]).abs().item()
        facts = model_summary(self.model, {}, self.device)
        curve = {"x": x[:, 0].numpy(), "made": made[:, 0].numpy(), "true": true[:, 0].numpy()}
        return Outcome(metrics, facts, {CURVE: curve})

    def save(self, directory: Path) -> None:
        """The network's weights."""
        torch.save(self.model.state_dict(), directory / WEIGHTS)
        (directory / MODEL_CONFIG).write_text("{}")
