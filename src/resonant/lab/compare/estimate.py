"""What a comparison would cost elsewhere: counted FLOPs over a sustained rate."""

from __future__ import annotations

from dataclasses import dataclass

from ..domains import build_task
from ..kit.plugins import import_plugins
from ..run.cost import count_flops
from .plan import Plan


@dataclass(frozen=True)
class Estimate:
    """One arm: its runs, tokens (or frames) of all of them, FLOPs of all of them."""

    arm: str
    runs: int
    tokens: float
    flops: float

    def hours(self, teraflops: float) -> float:
        """Hours at so many sustained TFLOP/s."""
        return self.flops / (teraflops * 1e12) / 3600


def estimate(plan: Plan) -> list[Estimate]:
    """FLOPs of forward and backward of one step of each arm, counted, times its steps and seeds.

    Evaluations and sweeps are not in it. Counted as if the fused kernel skipped
    nothing; windows are bands, which are less work.
    """
    found = []
    for arm in plan.arms:
        runs = [run for run in plan.runs if run.arm == arm.name]
        import_plugins(runs[0].plugins)
        task = build_task(runs[0], plan.data_dir)
        steps = runs[0].training.steps * len(runs)
        tokens = float(steps * task.tokens_per_step)
        found.append(Estimate(arm.name, len(runs), tokens, steps * count_flops(task)))
    return found
