"""The demo: bytes of Python's own standard library, nothing to download.

Does nearness (Krause) or mere locality (the window) do the work? Numbers depend on the Python
version, whose library the text is; none is quoted in the README.
"""

from __future__ import annotations

from ..data.configs import DataConfig
from ..models.configs import preset_0_11m
from ..training.configs import RunConfig, TrainingConfig
from .experiment import Arm, Experiment

WINDOW = 32
TOP_K = 24


def locality_arms(window: int, top_k: int) -> tuple[Arm, ...]:
    """From softmax to Krause with window and top-k, one change at a time."""
    return (
        Arm("softmax", "softmax over the whole past"),
        Arm(
            "softmax-window",
            "softmax over a window of the past",
            control="softmax",
            changes={"model.attention.window": window},
        ),
        Arm(
            "krause-window",
            "Krause over the same window",
            control="softmax-window",
            changes={"model.attention.mechanism": "krause"},
        ),
        Arm(
            "krause-window-topk",
            "Krause over the nearest keys in the window",
            control="krause-window",
            changes={"model.attention.top_k": top_k},
        ),
    )


EXPERIMENT = Experiment(
    name="stdlib",
    says="bytes of Python's standard library, 0.11M parameters, about 4 minutes on 2 cores",
    base=RunConfig(
        experiment="stdlib",
        model=preset_0_11m(),
        data=DataConfig(name="stdlib", tokens="bytes"),
        training=TrainingConfig(steps=600, batch_size=16, context=128, learning_rate=4e-3),
    ),
    arms=locality_arms(WINDOW, TOP_K),
    ceilings={"*": 2.1, "softmax": 1.9},
)
