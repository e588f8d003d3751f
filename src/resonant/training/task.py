"""What the loop asks of a kind of problem."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Task(Protocol):
    """A model with its data: everything the loop does not know.

    ``loss(step)`` is the mean loss of the step's batch, a function of the configuration, the seed
    and the step alone. ``evaluate(split)`` is the loss on "valid" or "test" in the same unit.
    """

    @property
    def model(self) -> nn.Module: ...

    def loss(self, step: int) -> Tensor: ...

    def evaluate(self, split: str) -> float: ...

    @property
    def tokens_per_step(self) -> int:
        """Tokens, or frames, per training step."""
        ...

    def measure(self) -> dict[str, float]:
        """Final metrics beyond losses, by name."""
        ...

    def summary(self) -> dict[str, Any]:
        """What the report shows beyond losses: samples, token counts."""
        ...

    def save(self, directory: Any) -> None:
        """Write the trained model, loadable on its own."""
        ...
