"""A sweep of the learning rate, as a comparison's folder holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ...files import read_json
from .folder import SWEEP


@dataclass(frozen=True)
class Sweep:
    """Validation losses (infinite where training diverged) by arm and rate."""

    rates: tuple[float, ...]
    seed: int
    losses: dict[str, dict[float, float]]

    def best(self, arm: str) -> float:
        """The rate with the smallest validation loss."""
        return min(self.losses[arm], key=self.losses[arm].__getitem__)

    def at_edge(self, arm: str) -> bool:
        """Whether the best rate is the smallest or largest tried: a better one may lie beyond."""
        return len(self.rates) > 1 and self.best(arm) in (min(self.rates), max(self.rates))


def read_sweep(directory: Path) -> Sweep | None:
    """The sweep of a comparison's folder, or None if there was none."""
    path = directory / SWEEP
    if not path.is_file():
        return None
    values = read_json(path)
    losses = {
        arm: {float(rate): math.inf if loss is None else loss for rate, loss in by_rate.items()}
        for arm, by_rate in values["losses"].items()
    }
    return Sweep(tuple(values["rates"]), values["seed"], losses)
