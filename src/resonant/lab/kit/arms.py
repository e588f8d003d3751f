"""Arms that several experiments have."""

from __future__ import annotations

from .experiment import Arm


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
