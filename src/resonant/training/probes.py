"""Sequences that ask for one ability, as a task: how many answers are right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.configs import ProbeConfig
from ..data.probes import VOCABULARY, ProbeBatch, probe_batch
from ..models.base import CausalModel, learned_numbers
from .building import build_for_tokens
from .conditions import LONG
from .configs import RunConfig
from .diagnosis import LOOKED_AT, keep_diagnosis
from .sizes import model_summary

EVALUATION_BATCH = 64


class ProbeTask:
    """Losses in nats per answer of a causal model of tokens."""

    def __init__(self, config: RunConfig, device: str = "cpu") -> None:
        assert isinstance(config.data, ProbeConfig)
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
        logits, targets, _ = self._answers(probe_batch(self.data, "train", key=key, count=count))
        return F.cross_entropy(logits, targets)

    def _answers(self, batch: ProbeBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (answer, vocabulary), the right ids, and whether they are scored."""
        logits, targets = self.model(batch.inputs.to(self.device)), batch.targets.to(self.device)
        asked = targets >= 0
        return logits[asked], targets[asked], batch.scored.to(self.device)[asked]

    def _test(self, split: str, times: int) -> Iterator[ProbeBatch]:
        """Sequences of a test set, the same for every seed and arm."""
        count = self.config.training.evaluation_windows * (4 if split == "test" else 1)
        for index, start in enumerate(range(0, count, EVALUATION_BATCH)):
            size = min(EVALUATION_BATCH, count - start)
            yield probe_batch(self.data, split, key=(0, index), count=size, times=times)

    def evaluate(self, split: str) -> float:
        """Mean loss in nats per answer over fixed sequences of ``split``."""
        return self._scores(split)[0]

    def measure(self) -> dict[str, float]:
        """The share of scored test answers that are right, also in sequences twice as long."""
        long = self._scores("test", times=2)[1]
        return {"accuracy": self._scores("test")[1], f"accuracy@{LONG}": long}

    @torch.no_grad()
    def _scores(self, split: str, times: int = 1) -> tuple[float, float]:
        """Mean loss, and share of right answers."""
        self.model.eval()
        loss, answers, right, scored = 0.0, 0, 0, 0
        for batch in self._test(split, times):
            logits, targets, counts = self._answers(batch)
            loss += F.cross_entropy(logits.double(), targets, reduction="sum").item()
            right += int(((logits.argmax(-1) == targets) & counts).sum())
            answers, scored = answers + targets.numel(), scored + int(counts.sum())
        self.model.train()
        return loss / answers, right / scored

    def summary(self) -> dict[str, Any]:
        """Parameter counts and learned numbers."""
        return model_summary(self.model, self.start, self.device)

    def save(self, directory: Path) -> None:
        """The model, and what it does with a few sequences."""
        self.model.save_pretrained(directory)
        batch = probe_batch(self.data, "valid", key=(0, 0), count=LOOKED_AT)
        texts = [f" {token}" for token in batch.inputs[0].tolist()]
        keep_diagnosis(self.model, batch.inputs.to(self.device), texts, directory)
