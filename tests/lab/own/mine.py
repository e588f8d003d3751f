"""Comparisons of one's own that take milliseconds: what a user's module would hold."""

import math
from dataclasses import dataclass

import numpy as np

from resonant.lab import Comparison, Run


@dataclass(frozen=True)
class Config:
    """Of ``noisy``.

    Args:
        noise: deviation of the scores
        steps: numbers that are drawn
    """

    noise: float = 0.1
    steps: int = 4


def noisy(arm: float, seed: int, run: Run) -> dict[str, float]:
    """The arm's value under noise that depends on arm and seed."""
    drawn = np.random.default_rng([seed, round(1000 * arm)]).normal(arm, run.config.noise)
    for step in range(run.config.steps):
        run.log(step, mse=drawn / (step + 1))
    return {"mse": drawn, "accuracy": 1 - drawn / 10, "valid_mse": drawn + 0.01}


def odd(arm: str, seed: int, run: Run) -> dict[str, float]:
    """Arms that go wrong, each in its own way."""
    if arm == "raises":
        raise ValueError("no such\nfile")
    if arm == "exits":
        raise SystemExit(3)
    scores = {"mse": {"fine": 1.0, "other": 2.0}.get(arm, 3.0) + 0.1 * seed, "extra": 5.0}
    if arm == "nan":
        scores["mse"] = math.nan
    if arm == "fails-once" and seed == 1:
        raise ValueError("no luck")
    if arm == "lacks" and seed == 1:
        del scores["extra"]
    return scores


experiment = Comparison(
    arms={"zero": 0.0, "one": 1.0, "two": 2.0},
    train_and_score=noisy,
    control="zero",
    better={"mse": "lower", "accuracy": "higher"},
    config=Config(),
    says="values under noise",
)
nothing = 3
