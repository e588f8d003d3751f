"""Sequences that ask for one ability, as a task: how many answers are right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.base import CausalModel, learned_numbers
from ..alignment.conditions import LONG
from ..kit.building import build_for_tokens
from ..kit.config import RunConfig
from ..kit.summary import LOOKED_AT, at_work, model_summary
from ..kit.task import Outcome
from .config import AbilityConfig
from .sequences import VOCABULARY, Sequences, sequences

EVALUATION_BATCH = 64


class AbilitiesTask:
    """Losses in nats per answer of a causal model of tokens."""

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        del data_dir  # made up
        assert isinstance(config.data, AbilityConfig)
        self.config, self.data, self.device = config, config.data, torch.device(device)
        self.model: CausalModel = build_for_tokens(config, VOCABULARY, self.device)
        self.start = learned_numbers(self.model)

    @property
    def tokens_per_step(self) -> int:
        """Tokens per training step."""
        return self.config.training.batch_size * self.data.length

    def loss(self, step: int) -> Tensor:
        """Mean cross-entropy of the answers in the batch of ``step``."""
        count, key = self.config.training.batch_size, (self.config.seed, step)
        logits, targets, _ = self._answers(sequences(self.data, "train", key=key, count=count))
        return F.cross_entropy(logits, targets)

    def _answers(self, batch: Sequences) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (answer, vocabulary), the right ids, and whether they are scored."""
        logits, targets = self.model(batch.inputs.to(self.device)), batch.targets.to(self.device)
        asked = targets >= 0
        return logits[asked], targets[asked], batch.scored.to(self.device)[asked]

    def batches(self, split: str, times: int) -> Iterator[Sequences]:
        """Sequences of a test set, the same for every seed and arm."""
        count = self.config.training.evaluated(split)
        for index, start in enumerate(range(0, count, EVALUATION_BATCH)):
            size = min(EVALUATION_BATCH, count - start)
            yield sequences(self.data, split, key=(0, index), count=size, times=times)

    def evaluate(self, split: str) -> float:
        """Mean loss in nats per answer over fixed sequences of ``split``."""
        return self._scores(split)[0]

    def finish(self) -> Outcome:
        """Losses, shares of right answers, and what the model does with a few sequences."""
        facts = model_summary(self.model, self.start, self.device)
        batch = sequences(self.data, "valid", key=(0, 0), count=LOOKED_AT)
        texts = [f" {token}" for token in batch.inputs[0].tolist()]
        arrays = at_work(self.model, batch.inputs.to(self.device), texts)
        return Outcome(self.metrics(), facts, arrays)

    def metrics(self) -> dict[str, float]:
        """Losses, and the share of scored test answers that are right, also twice as long."""
        loss, right = self._scores("test")
        return {
            "valid_loss": self.evaluate("valid"),
            "test_loss": loss,
            "accuracy": right,
            f"accuracy@{LONG}": self._scores("test", times=2)[1],
        }

    @torch.no_grad()
    def _scores(self, split: str, times: int = 1) -> tuple[float, float]:
        """Mean loss, and share of right answers."""
        self.model.eval()
        loss, answers, right, scored = 0.0, 0, 0, 0
        for batch in self.batches(split, times):
            logits, targets, counts = self._answers(batch)
            loss += F.cross_entropy(logits.double(), targets, reduction="sum").item()
            right += int(((logits.argmax(-1) == targets) & counts).sum())
            answers, scored = answers + targets.numel(), scored + int(counts.sum())
        self.model.train()
        return loss / answers, right / scored

    def save(self, directory: Path) -> None:
        """The model."""
        self.model.save_pretrained(directory)
