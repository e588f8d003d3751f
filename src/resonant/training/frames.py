"""Symbols to frames as a task: how well frames are predicted, and how well they are aligned."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.configs import SymbolsConfig
from ..data.symbols import Utterances, utterances
from ..diagnostics import along_path, measure_alignment, record_clocks
from ..errors import UserError
from ..files import write_atomically
from ..functional import guided_attention_loss, monotonic_alignment_search
from ..models.frame_configs import FrameTransformerConfig
from ..models.frames import FrameTransformer
from .conditions import AS_TRAINED, CONDITIONS, SHOWN, Condition
from .configs import RunConfig

EVALUATION_BATCH = 32
STOP_SHARE = 0.1  # of the stop unit's loss beside that of frames
CAP = 3.0  # times the true length: who has not stopped by then is said not to stop
DECODED = 64  # utterances decoded without the truth; frames come one by one


class FrameTask:
    """Squared errors per number of a frame; autoregressive models are given the true past."""

    def __init__(self, config: RunConfig) -> None:
        assert isinstance(config.data, SymbolsConfig)
        assert isinstance(config.model, FrameTransformerConfig)
        self.config, self.data, self.shape = config, config.data, config.model
        for field in ("vocabulary", "features"):
            ours, theirs = getattr(self.shape, field), getattr(self.data, field)
            if ours != theirs:
                raise UserError(
                    f"the data have {field} = {theirs}, the model {ours}; pass --model.{field} "
                    f"{theirs}"
                )
        torch.manual_seed(config.seed)
        self.model = FrameTransformer(self.shape)
        self.head = (0, 0)  # layer and head that measure() looks at

    @property
    def tokens_per_step(self) -> int:
        """Frames per training step, the mean of ten steps."""
        batches = (self._batch(step) for step in range(10))
        return round(sum(int(batch.durations.sum()) for batch in batches) / 10)

    def _batch(self, step: int) -> Utterances:
        count = self.config.training.batch_size
        return utterances(self.data, "train", key=(self.config.seed, step), count=count)

    def loss(self, step: int) -> Tensor:
        """Mean squared error of the batch of ``step``, with what guides attention or stops it."""
        batch, guide = self._batch(step), self.shape.attention.guide
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
            frames=frames,
            need_weights=need_weights,
        )

    def _test(self, split: str, condition: Condition = AS_TRAINED) -> list[Utterances]:
        """A test set in batches, the same for every seed and arm."""
        count = self.config.training.evaluation_windows * (4 if split == "test" else 1)
        most = 2 * self.data.longest
        symbols = (most, most) if condition.long else None
        sizes = [min(EVALUATION_BATCH, count - i) for i in range(0, count, EVALUATION_BATCH)]
        return [
            utterances(
                self.data,
                split,
                key=(0, index),
                count=size,
                tempo=condition.tempo,
                symbols=symbols,
            )
            for index, size in enumerate(sizes)
        ]

    @torch.no_grad()
    def evaluate(self, split: str) -> float:
        """Mean squared error per number of a frame, over fixed utterances of ``split``."""
        self.model.eval()
        loss = self._error(self._test(split))
        self.model.train()
        return loss

    def _error(self, batches: list[Utterances]) -> float:
        total, count = 0.0, 0
        for batch in batches:
            real = ~batch.frame_padding
            error = (self._run(batch).frames - batch.frames).square()[real]
            total, count = total + error.double().sum().item(), count + error.numel()
        return total / count

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Errors and alignment of one head at every tempo and on long utterances.

        The head is the one with the smallest boundary error on the validation split.
        """
        self.model.eval()
        self.head = self._best_head()
        found: dict[str, float] = {}
        for condition in CONDITIONS:
            batches = self._test("test", condition)
            scores = self._scores(batches, *self.head)
            found |= {f"{name}@{condition.name}": value for name, value in scores.items()}
            found[f"loss@{condition.name}"] = self._error(batches)
            found[f"search_boundary_error@{condition.name}"] = self._searched(batches)
            found[f"stretched_boundary_error@{condition.name}"] = self._stretched(batches)
        if not self.model.parallel:
            found |= self._decoded()
        self.model.train()
        return found

    def _weights(self, batch: Utterances) -> Tensor:
        """(layer, batch, head, frame, symbol)."""
        return torch.stack(self._run(batch, need_weights=True).weights)

    def _best_head(self) -> tuple[int, int]:
        """Layer and head."""
        errors: dict[tuple[int, int], float] = {}
        batches = self._test("valid")
        for batch in batches:
            weights = self._weights(batch)
            for layer in range(weights.shape[0]):
                for head in range(weights.shape[2]):
                    scores = measure_alignment(weights[layer, :, head], batch.durations)
                    share = scores.boundary_error.sum().item()
                    errors[layer, head] = errors.get((layer, head), 0.0) + share
        return min(errors, key=errors.__getitem__)

    def _scores(self, batches: list[Utterances], layer: int, head: int) -> dict[str, float]:
        sums: dict[str, float] = {}
        for batch in batches:
            scores = measure_alignment(self._weights(batch)[layer, :, head], batch.durations)
            for name, value in scores.means().items():
                sums[name] = sums.get(name, 0.0) + value * len(batch.symbols)
        count = sum(len(batch.symbols) for batch in batches)
        return {name: value / count for name, value in sums.items()}

    def _searched(self, batches: list[Utterances]) -> float:
        """Boundary error of the best monotone path through the head's weights."""
        layer, head = self.head
        errors = []
        for batch in batches:
            weights = self._weights(batch)[layer, :, head]
            sizes = ((~batch.symbol_padding).sum(-1), batch.durations.sum(-1))
            path = monotonic_alignment_search(weights.log().transpose(1, 2), *sizes)
            found = along_path(path, weights.shape[2])
            errors.append(measure_alignment(found, batch.durations).boundary_error)
        return torch.cat(errors).mean().item()

    def _stretched(self, batches: list[Utterances]) -> float:
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

    def _decoded(self) -> dict[str, float]:
        """What becomes of utterances when the model hears only itself."""
        layer, head = self.head
        batch = utterances(self.data, "test", key=(0, 0), count=DECODED)
        true = batch.durations.sum(-1)
        most = int(CAP * true.max())
        made = self.model.decode(batch.symbols, symbol_padding=batch.symbol_padding, most=most)
        # The cap is each row's own.
        stopped = made.stopped & (made.lengths <= CAP * true)
        lengths = torch.minimum(made.lengths, (CAP * true).long())
        weights = made.weights[layer][:, head]
        scores = measure_alignment(weights, batch.durations, lengths).means()
        kept = ("boundary_error", "duration_error", "skips", "repeats", "early_stop")
        free = {f"free_{name}": scores[name] for name in kept}
        off = (lengths / true - 1).abs().mean().item()
        return free | {"free_length": off, "free_no_stop": 1 - stopped.double().mean().item()}

    def summary(self) -> dict[str, Any]:
        """Parameter counts (attention: that between frames and symbols), and the head looked at."""
        named = dict(self.model.named_parameters())
        return {
            "parameters": sum(p.numel() for p in named.values()),
            "attention_parameters": sum(p.numel() for n, p in named.items() if ".cross." in n),
            "head": list(self.head),
        }

    def save(self, directory: Path) -> None:
        """The model, and where it looks in one utterance at a few tempi (alignment.npz)."""
        self.model.save_pretrained(directory)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self._pictures())  # type: ignore[arg-type]
        write_atomically(directory / "alignment.npz", buffer.getvalue(), "alignment")

    @torch.no_grad()
    def _pictures(self) -> dict[str, np.ndarray]:
        """Weights, true durations and clocks of the first test utterance, by tempo."""
        self.model.eval()
        layer, head = self.head
        kept: dict[str, np.ndarray] = {}
        for tempo in SHOWN:
            batch = self._test("test", Condition(f"{tempo:g}", tempo))[0]
            with record_clocks(self.model.blocks[layer].cross) as clocks:  # type: ignore[arg-type]
                weights = self._weights(batch)[layer, 0, head]
            symbols, frames = int((~batch.symbol_padding[0]).sum()), int(batch.durations[0].sum())
            kept[f"weights@{tempo:g}"] = weights[:frames, :symbols].half().numpy()
            kept[f"durations@{tempo:g}"] = batch.durations[0, :symbols].numpy()
            for target, source in clocks:
                kept[f"target@{tempo:g}"] = target.end[0, head, :frames].float().numpy()
                kept[f"source@{tempo:g}"] = source.end[0, head, :symbols].float().numpy()
        self.model.train()
        return kept
