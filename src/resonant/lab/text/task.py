"""Next-token prediction as a task."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.base import CausalModel, learned_numbers
from ...models.generation import generate
from ..kit.building import build_for_tokens
from ..kit.config import RunConfig, check_corpus
from ..kit.summary import LOOKED_AT, at_work, model_summary
from ..kit.task import Outcome
from .batches import evaluation_windows, training_batch
from .config import TextConfig
from .corpus import Corpus, load_corpus

EVALUATION_BATCH = 32


@lru_cache(maxsize=2)
def cached_corpus(config: TextConfig, data_dir: Path | None) -> Corpus:
    """The corpus, loaded once per process."""
    return load_corpus(config, data_dir)


class TextTask:
    """Losses in nats per token of a language model on a corpus."""

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        assert isinstance(config.data, TextConfig)
        self.corpus = cached_corpus(config.data, data_dir)
        check_corpus(config, self.corpus.digest, "text")
        self.model: CausalModel = build_for_tokens(
            config, self.corpus.tokenizer.vocabulary, self.device
        )
        self.start = learned_numbers(self.model)

    def loss(self, step: int) -> Tensor:
        """Mean cross-entropy of the batch of ``step``."""
        return self.part_loss(step, slice(None))

    def part_loss(self, step: int, rows: slice) -> Tensor:
        """Compute the mean cross-entropy of ``rows`` of the batch of ``step``."""
        training = self.config.training
        inputs, targets = training_batch(
            self.corpus.splits["train"],
            seed=self.config.seed,
            step=step,
            batch_size=training.batch_size,
            context=training.context,
        )
        inputs, targets = (x[rows].to(self.device) for x in (inputs, targets))
        return F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten())

    def evaluate(self, split: str) -> float:
        """Mean loss in nats per token over fixed windows of ``split``."""
        return self._losses(split).mean().item()

    @torch.no_grad()
    def _losses(self, split: str) -> Tensor:
        """(position): mean loss at each position of the windows, in float64."""
        inputs, targets = self.windows(split)
        self.model.eval()
        total = torch.zeros(self.config.training.context, dtype=torch.float64)
        for batch, target in self._batches(inputs, targets):
            logits = self.model(batch)
            losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
            total += losses.unflatten(0, target.shape).cpu().double().sum(0)
        self.model.train()
        return total / len(targets)

    def windows(self, split: str) -> tuple[Tensor, Tensor]:
        """Inputs and targets (window, position), the same for every seed and arm."""
        training = self.config.training
        count = training.evaluated(split)
        return evaluation_windows(self.corpus.splits[split], count=count, context=training.context)

    def _batches(self, inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(inputs), EVALUATION_BATCH):
            batch = slice(start, start + EVALUATION_BATCH)
            yield inputs[batch].to(self.device), targets[batch].to(self.device)

    @property
    def tokens_per_step(self) -> int:
        """Tokens per training step."""
        return self.config.training.batch_size * self.config.training.context

    def finish(self) -> Outcome:
        """Losses, by position too; numbers learned, a sample, and the model at work."""
        prompt, text = self._sample()
        facts = {
            **model_summary(self.model, self.start, self.device),
            "loss_by_position": [round(each, 5) for each in self._losses("test").tolist()],
            "prompt": prompt,
            "sample": text,
        }
        return Outcome(self.metrics(), facts, self._at_work())

    def metrics(self) -> dict[str, float]:
        """Losses; of a model that sees the future also what it loses without it."""
        found = {"valid_loss": self.evaluate("valid"), "test_loss": self.evaluate("test")}
        if self.model.sees_future:
            found["test_loss_without_future"] = self.loss_without_future()
        return found

    @torch.no_grad()
    def loss_without_future(self) -> float:
        """Mean test loss where each token is predicted from those before it, and no other is there.

        That is what decoding meets which reads all tokens anew for each next one.
        """
        inputs, targets = self.windows("test")
        self.model.eval()
        total = 0.0
        for batch, target in self._batches(inputs, targets):
            for end in range(1, batch.shape[1] + 1):
                logits = self.model(batch[:, :end])[:, -1]
                total += F.cross_entropy(logits, target[:, end - 1], reduction="sum").item()
        self.model.train()
        return total / targets.numel()

    def _sample(self) -> tuple[str, str]:
        """A continuation of the start of the validation split at temperature 0.8."""
        training, valid = self.config.training, self.corpus.splits["valid"]
        tokens, _ = evaluation_windows(valid, count=1, context=min(64, training.context))
        drawn = generate(
            self.model,
            tokens.to(self.device),
            training.sample_tokens,
            temperature=0.8,
            seed=self.config.seed,
            context=max(2, training.context),
        )
        ids, start = drawn[0].cpu().numpy(), tokens.shape[1]
        decode = self.corpus.tokenizer.decode
        return decode(ids[:start]), decode(ids[start:])

    def _at_work(self) -> dict[str, dict]:
        """What the model does with a few windows."""
        inputs, _ = evaluation_windows(
            self.corpus.splits["valid"], count=LOOKED_AT, context=self.config.training.context
        )
        decode = self.corpus.tokenizer.decode
        texts = [decode(token[None].numpy()) for token in inputs[0]]
        return at_work(self.model, inputs.to(self.device), texts)

    def save(self, directory: Path) -> None:
        """The model, and what its token ids stand for."""
        self.model.save_pretrained(directory)
        self.corpus.tokenizer.save(directory)
