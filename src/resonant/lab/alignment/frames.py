"""Symbols to frames as a task: how well frames are predicted, and how well they are aligned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...diagnostics import along_path, measure_alignment, record_clocks
from ...functional import FilteredClock, guided_attention_loss, monotonic_alignment_search
from ...models.frame_configs import FrameTransformerConfig
from ...models.frames import FrameTransformer
from ...nn.timed import ClockFilter, TimedAttention, trusted
from ..kit.config import RunConfig
from ..kit.task import Outcome
from .conditions import ALIGNMENT, AS_TRAINED, PACES, SHOWN, Condition
from .utterances import Utterances

EVALUATION_BATCH = 32
DECODED = 64  # utterances, at most, that models decode hearing only themselves
STOP_SHARE = 0.1  # of the stop unit's loss beside that of frames
CAP = 3.0  # times the true length: who has not stopped by then is said not to stop


class FrameTask(ABC):
    """Squared errors per number of a frame; autoregressive models are given the true past.

    What the utterances are is left to the tasks made of this one: ``conditions`` are what they are
    tested under.
    """

    conditions: tuple[Condition, ...]

    def __init__(self, config: RunConfig, model: type[FrameTransformer], device: str) -> None:
        assert isinstance(config.model, FrameTransformerConfig)
        self.config, self.shape = config, config.model
        torch.manual_seed(config.seed)
        self.device = torch.device(device)
        self.model = model(self.shape).to(self.device)
        self.head = (0, 0)  # layer and head that metrics() finds

    @abstractmethod
    def batch(self, step: int) -> Utterances:
        """What a step learns from, the same for every arm of a seed."""

    @abstractmethod
    def batches(self, split: str, condition: Condition = AS_TRAINED) -> list[Utterances]:
        """A test set in batches, the same for every seed and arm."""

    @abstractmethod
    def _heard(self) -> Utterances:
        """A batch of tests that models decode hearing only themselves."""

    @property
    def tokens_per_step(self) -> int:
        """Frames per training step, the mean of ten steps."""
        batches = (self.batch(step) for step in range(10))
        return round(sum(int(batch.durations.sum()) for batch in batches) / 10)

    def loss(self, step: int) -> Tensor:
        """Compute ``loss_of`` the batch of ``step``."""
        return self.loss_of(self.batch(step).to(self.device))

    def loss_of(self, batch: Utterances) -> Tensor:
        """Compute the mean squared error of ``batch``, with what guides attention or stops it."""
        guide = self.shape.attention.guide
        output = self._run(batch, need_weights=guide > 0)
        real = ~batch.frame_padding
        total = (output.frames - batch.frames).square()[real].mean()
        if output.weights is not None:
            masks = real, ~batch.symbol_padding
            far = [guided_attention_loss(each, *masks) for each in output.weights]
            total = total + guide * torch.stack(far).mean()
        if output.stop is not None:
            last = torch.zeros_like(output.stop)
            last.scatter_(1, batch.durations.sum(-1, keepdim=True) - 1, 1.0)
            stop = F.binary_cross_entropy_with_logits(output.stop[real], last[real])
            total = total + STOP_SHARE * stop
        return total

    def _run(self, batch: Utterances, *, need_weights: bool = False) -> Any:
        frames = None if self.model.parallel else batch.frames
        return self.model(
            batch.symbols,
            batch.frame_padding,
            symbol_padding=batch.symbol_padding,
            voice=batch.voices,
            frames=frames,
            need_weights=need_weights,
        )

    @torch.no_grad()
    def evaluate(self, split: str) -> float:
        """Mean squared error per number of a frame, over fixed utterances of ``split``."""
        with self._measuring():
            return self._error(self.batches(split))

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """The model in evaluation, on the CPU, where alignments are searched."""
        self.model.cpu().eval()
        try:
            yield
        finally:
            self.model.to(self.device).train()

    def _error(self, batches: list[Utterances]) -> float:
        total, count = 0.0, 0
        for batch in batches:
            real = ~batch.frame_padding
            error = (self._run(batch).frames - batch.frames).square()[real]
            total, count = total + error.double().sum().item(), count + error.numel()
        return total / count

    def finish(self) -> Outcome:
        """Errors and alignment, and where the model looks in one utterance at a few tempi."""
        metrics = self.metrics()  # finds the head that the others are about
        with torch.no_grad(), self._measuring():
            arrays = {ALIGNMENT: self._pictures()}
        return Outcome(metrics, self.facts(), arrays)

    @torch.no_grad()
    def metrics(self) -> dict[str, float]:
        """Errors and alignment of one head at every tempo and on long utterances.

        The head is the one with the smallest boundary error on the validation split.
        """
        found = {"valid_loss": self.evaluate("valid"), "test_loss": self.evaluate("test")}
        with self._measuring():
            self.head = self._best_head()
            for condition in self.conditions:
                with self._trusting(condition):
                    measured = self._measured(condition)
                found |= {f"{name}@{condition.name}": value for name, value in measured.items()}
            return found | self._free()

    def _trusting(self, condition: Condition) -> AbstractContextManager[None]:
        """Let clocks that listen take the condition's share of their corrections."""
        listens = any(isinstance(module, ClockFilter) for module in self.model.modules())
        return trusted(self.model, condition.trust) if listens else nullcontext()

    def _measured(self, condition: Condition) -> dict[str, float]:
        """Everything that is measured under one condition."""
        batches = self.batches("test", condition)
        return {
            **self._scores(batches, *self.head),
            "loss": self._error(batches),
            "search_boundary_error": self._searched(batches),
            "stretched_boundary_error": self.stretched_error(batches),
        }

    def weights(self, batch: Utterances) -> Tensor:
        """(layer, batch, head, frame, symbol)."""
        return torch.stack(self._run(batch, need_weights=True).weights)

    def _best_head(self) -> tuple[int, int]:
        """Layer and head."""
        errors: dict[tuple[int, int], float] = {}
        batches = self.batches("valid")
        for batch in batches:
            weights = self.weights(batch)
            for layer in range(weights.shape[0]):
                for head in range(weights.shape[2]):
                    scores = measure_alignment(weights[layer, :, head], batch.durations)
                    share = scores.boundary_error.sum().item()
                    errors[layer, head] = errors.get((layer, head), 0.0) + share
        return min(errors, key=errors.__getitem__)

    def _scores(self, batches: list[Utterances], layer: int, head: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for batch in batches:
            scores = measure_alignment(self.weights(batch)[layer, :, head], batch.durations)
            for name, value in scores.means().items():
                sums[name] = sums.get(name, 0.0) + value * len(batch.symbols)
        count = sum(len(batch.symbols) for batch in batches)
        return {name: value / count for name, value in sums.items()}

    def _searched(self, batches: list[Utterances]) -> float:
        """Boundary error of the best monotone path through the head's weights."""
        layer, head = self.head
        errors = []
        for batch in batches:
            weights = self.weights(batch)[layer, :, head]
            sizes = ((~batch.symbol_padding).sum(-1), batch.durations.sum(-1))
            path = monotonic_alignment_search(weights.log().transpose(1, 2), *sizes)
            found = along_path(path, weights.shape[2])
            errors.append(measure_alignment(found, batch.durations).boundary_error)
        return torch.cat(errors).mean().item()

    def stretched_error(self, batches: list[Utterances]) -> float:
        """Boundary error of the durations without jitter, stretched to the true length."""
        errors = []
        for batch in batches:
            expected, lengths = batch.expected, batch.durations.sum(-1, keepdim=True)
            ends = expected.cumsum(-1) * lengths / expected.sum(-1, keepdim=True)
            frames = torch.arange(batch.frames.shape[1]) + 0.5
            path = (frames[None, :, None] >= ends.unsqueeze(1)).sum(-1)
            path = path.masked_fill(batch.frame_padding, -1)
            path = path.clamp(max=batch.symbols.shape[1] - 1)
            found = along_path(path, batch.symbols.shape[1])
            errors.append(measure_alignment(found, batch.durations).boundary_error)
        return torch.cat(errors).mean().item()

    def _free(self) -> dict[str, float]:
        """What becomes of utterances when the model sees only its own frames, by pace."""
        if self.model.parallel:
            return {}
        found = self._alone(1.0)
        if any(isinstance(module, TimedAttention) for module in self.model.modules()):
            for pace in PACES:
                paced = self._alone(pace)
                found |= {f"{name}@{pace:g}": value for name, value in paced.items()}
        return found

    def _alone(self, pace: float) -> dict[str, float]:
        """Scores of what the model makes at ``pace`` times the rate that it learnt."""
        layer, head = self.head
        batch = self._heard()
        true = batch.durations.sum(-1) / pace
        most = int(CAP * true.max())
        options = {"symbol_padding": batch.symbol_padding, "voice": batch.voices}
        made = self.model.decode(batch.symbols, most=most, tempo=pace, **options)
        # The cap is each row's own.
        stopped = made.stopped & (made.lengths <= CAP * true)
        lengths = torch.minimum(made.lengths, (CAP * true).long())
        weights = made.weights[layer][:, head]
        scores = measure_alignment(weights, batch.durations, lengths, tempo=pace).means()
        kept = ("boundary_error", "duration_error", "skips", "repeats", "early_stop")
        free = {f"free_{name}": scores[name] for name in kept}
        off = (lengths / true - 1).abs().mean().item()
        return free | {"free_length": off, "free_no_stop": 1 - stopped.double().mean().item()}

    def facts(self) -> dict[str, Any]:
        """Parameter counts (attention: that between frames and symbols), and the head looked at."""
        named = dict(self.model.named_parameters())
        return {
            "parameters": sum(p.numel() for p in named.values()),
            "attention_parameters": sum(p.numel() for n, p in named.items() if ".cross." in n),
            "head": list(self.head),
        }

    def save(self, directory: Path) -> None:
        """The model."""
        self.model.save_pretrained(directory)

    def _pictures(self) -> dict[str, np.ndarray]:
        """What is kept of the first test utterance, by condition."""
        kept: dict[str, np.ndarray] = {}
        for condition in self.conditions:
            if condition.name in SHOWN:
                found = self._picture(self.batches("test", condition)[0])
                kept |= {f"{name}@{condition.name}": each for name, each in found.items()}
        return kept

    def _picture(self, batch: Utterances) -> dict[str, np.ndarray]:
        """Weights, true durations and clocks of the first utterance."""
        layer, head = self.head
        with record_clocks(self.model.blocks[layer].cross) as clocks:  # type: ignore[arg-type]
            weights = self.weights(batch)[layer, 0, head]
        symbols, frames = int((~batch.symbol_padding[0]).sum()), int(batch.durations[0].sum())
        kept = {
            "weights": weights[:frames, :symbols].half().numpy(),
            "durations": batch.durations[0, :symbols].numpy(),
        }
        for target, source in clocks:
            listens = isinstance(target, FilteredClock)
            place = target.center if listens else target.end
            kept["target"] = place[0, head, :frames].float().numpy()
            if listens:
                kept["observed"] = target.observed[0, head, :frames].float().numpy()
                kept["variance"] = target.variance[0, head, :frames].float().numpy()
            kept["source"] = source.end[0, head, :symbols].float().numpy()
        return kept
