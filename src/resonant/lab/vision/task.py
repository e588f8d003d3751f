"""Images as tasks: which class, and pixel after pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diagnostics import record_attention
from ...models.architectures import build_model
from ...models.base import learned_numbers
from ...models.pixel_configs import PixelModelConfig
from ...models.pixels import PixelModel
from ...models.vision import VisionTransformer
from ...models.vision_configs import SwinTransformerConfig, VisionTransformerConfig
from ..kit.building import built
from ..kit.config import RunConfig, check_corpus
from ..kit.summary import LOOKED_AT, at_work, model_summary
from ..kit.task import Outcome
from .augmentation import augmented
from .classifier import Inputs
from .config import BY_CLASS, IMAGES, ImagesConfig
from .fitting import check_images_fit
from .images import Images, ImageSplit, load_images

EVALUATION_BATCH = 100
KEPT = 8  # images whose maps are kept, or that are completed
DRAWN = 24  # images that a model of pixels draws
# Means and standard deviations of ImageNet's colours, for images read as they are needed.
COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def build(config: RunConfig, data_dir: Path | None, device: str = "cpu") -> VisionTask:
    """The task that the model of ``config`` is for: classes, or pixels."""
    pixels = isinstance(config.model, PixelModelConfig)
    return (PixelsTask if pixels else ClassesTask)(config, data_dir, device)


class VisionTask:
    """Batches of images, the same for every arm of a seed, and fixed ones to test on."""

    model: nn.Module
    start: dict[str, list[float]]  # learned numbers before training

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str) -> None:
        assert isinstance(config.data, ImagesConfig)
        self.config, self.data = config, config.data
        self.device = torch.device(device)
        self.images: Images = load_images(config.data, data_dir)
        check_corpus(config, self.images.digest, "images")

    @property
    def tokens_per_step(self) -> int:
        """Images per training step."""
        return self.config.training.batch_size

    def _step(self, step: int) -> tuple[np.ndarray, Tensor]:
        """Images and labels of a step."""
        train = self.images.splits["train"]
        generator = np.random.Generator(np.random.Philox(key=[self.config.seed, step]))
        rows = generator.integers(0, len(train), self.config.training.batch_size)
        return train.take(rows), torch.from_numpy(train.labels[rows])

    def _tests(self, split: str) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Images and labels of a split, evenly spread over it, the same for every arm."""
        images = self.images.splits[split]
        count = self.config.training.evaluated(split)
        for rows in _spread(images, count):
            yield images.take(rows), torch.from_numpy(images.labels[rows])

    def facts(self) -> dict[str, Any]:
        """Parameter counts and learned numbers."""
        return model_summary(self.model, self.start, self.device)


def _spread(images: ImageSplit, count: int) -> Iterator[np.ndarray]:
    """Rows in batches: ``count`` at most, evenly over the whole split."""
    rows = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    for start in range(0, len(rows), EVALUATION_BATCH):
        yield rows[start : start + EVALUATION_BATCH]


class ClassesTask(VisionTask):
    """Cross-entropy of classes, in nats per image."""

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        super().__init__(config, data_dir, device)
        assert isinstance(config.model, (VisionTransformerConfig, SwinTransformerConfig))
        check_images_fit(config, len(self.images.classes))
        self.model = built(config, build_model, self.device)
        self.start = learned_numbers(self.model)
        mean, deviation = _colours(self.images.splits["train"])
        side = self.data.side * self.data.pool
        self.reading = Inputs(self.images.classes, mean, deviation, side, self.data.pool)

    def loss(self, step: int) -> Tensor:
        """Mean cross-entropy of the batch of ``step``, augmented as the data say."""
        return self.part_loss(step, slice(None))

    def part_loss(self, step: int, rows: slice) -> Tensor:
        """Compute the mean cross-entropy of ``rows`` of the batch of ``step``, augmented whole."""
        images, labels = self._step(step)
        scaled = torch.from_numpy(images).float() / 255
        classes, key = len(self.images.classes), (self.config.seed, step)
        scaled, shares = augmented(scaled, labels, self.data.augment, classes=classes, key=key)
        logits = self.model(self.reading.standardized(scaled[rows].to(self.device)))
        return F.cross_entropy(logits, shares[rows].to(self.device))

    def inputs(self, images: np.ndarray) -> Tensor:
        """Turn bytes into what the model reads."""
        scaled = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).float() / 255
        return self.reading.standardized(scaled)

    def evaluate(self, split: str) -> float:
        """Mean cross-entropy over fixed images of ``split``."""
        return self._scores(split)[0]

    def finish(self) -> Outcome:
        """Measure losses, accuracy, also by class, and what the model looks at."""
        loss, right, count = self._scores("test")
        metrics = {
            "valid_loss": self.evaluate("valid"),
            "test_loss": loss,
            "accuracy": int(right.sum()) / int(count.sum()),
        }
        of_classes = zip(self.images.classes, right.tolist(), count.tolist(), strict=True)
        by_class = {name: [rights, of] for name, rights, of in of_classes}
        return Outcome(metrics, self.facts() | {BY_CLASS: by_class}, self._at_work())

    @torch.no_grad()
    def _scores(self, split: str) -> tuple[float, Tensor, Tensor]:
        """Measure the mean loss, and count images of each class: those predicted right, and all."""
        self.model.eval()
        total, classes = 0.0, len(self.images.classes)
        right, count = torch.zeros(2, classes, dtype=torch.int64)
        for images, labels in self._tests(split):
            logits = self.model(self.inputs(images)).double().cpu()
            total += F.cross_entropy(logits, labels, reduction="sum").item()
            right += labels[logits.argmax(-1) == labels].bincount(minlength=classes)
            count += labels.bincount(minlength=classes)
        self.model.train()
        return total / int(count.sum()), right, count

    def _at_work(self) -> dict[str, dict]:
        """What a model of patches does with a few images, and where its class token looks."""
        if not isinstance(self.model, VisionTransformer):
            return {}
        valid = self.images.splits["valid"]
        chosen = next(_spread(valid, max(KEPT, LOOKED_AT)))
        images = valid.take(chosen)
        inputs = self.inputs(images)
        rows, columns = (length // self.model.config.patch for length in inputs.shape[2:])
        first = self.model.first.shape[0]
        names = ["class", *(f" register {i}" for i in range(1, first))]
        names += [f" {i // columns},{i % columns}" for i in range(rows * columns)]
        record = record_attention(self.model, inputs[:KEPT])
        looks = [
            layer.weights[:, :, 0, first:].unflatten(-1, (rows, columns)) for layer in record.layers
        ]
        arrays = np.stack([each.half().numpy() for each in looks], axis=1)
        shown = {"pictures": images[:KEPT].transpose(0, 2, 3, 1).copy(), "looks": arrays}
        shown["names"] = np.array([self.images.classes[i] for i in valid.labels[chosen[:KEPT]]])
        return at_work(self.model, inputs, names) | {IMAGES: shown}

    def save(self, directory: Path) -> None:
        """Write the model, its classes and how it reads images."""
        self.model.save_pretrained(directory)  # type: ignore[operator]
        self.reading.save(directory)


class PixelsTask(VisionTask):
    """Bits per dimension of a model of pixels."""

    model: PixelModel

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        super().__init__(config, data_dir, device)
        assert isinstance(config.model, PixelModelConfig)
        check_images_fit(config)
        self.model = built(config, build_model, self.device)
        self.start = learned_numbers(self.model)

    def shades(self, images: np.ndarray) -> Tensor:
        """(batch, row, column, channel) of shades."""
        levels = images.astype(np.int64) * self.data.levels // 256
        return torch.from_numpy(levels.transpose(0, 2, 3, 1).copy()).to(self.device)

    def bits(self, shades: Tensor) -> Tensor:
        """Mean bits per dimension of images (batch)."""
        length = shades[0].numel()
        return -self.model.log_likelihood(shades).mean() / (length * math.log(2.0))

    def loss(self, step: int) -> Tensor:
        """Mean bits per dimension of the batch of ``step``."""
        return self.part_loss(step, slice(None))

    def part_loss(self, step: int, rows: slice) -> Tensor:
        """Compute the mean bits per dimension of ``rows`` of the batch of ``step``."""
        return self.bits(self.shades(self._step(step)[0][rows]))

    def evaluate(self, split: str) -> float:
        """Mean bits per dimension over fixed images of ``split``."""
        return self._mean_bits(split, shift=0)

    def finish(self) -> Outcome:
        """Losses, what the model does with a few images, what it draws and completes."""
        return Outcome(self.metrics(), self.facts(), self._at_work())

    def metrics(self) -> dict[str, float]:
        """Losses, also of test images moved down by a row (the last row comes first)."""
        return {
            "valid_loss": self.evaluate("valid"),
            "test_loss": self.evaluate("test"),
            "test_loss_shifted": self._mean_bits("test", shift=1),
        }

    @torch.no_grad()
    def _mean_bits(self, split: str, shift: int) -> float:
        self.model.eval()
        total, count = 0.0, 0
        for images, labels in self._tests(split):
            shades = self.shades(images).roll(shift, dims=1)
            total += self.bits(shades).item() * len(labels)
            count += len(labels)
        self.model.train()
        return total / count

    def _at_work(self) -> dict[str, dict]:
        valid = self.images.splits["valid"]
        shades = self.shades(valid.take(next(_spread(valid, max(KEPT, LOOKED_AT)))))
        inputs = self.model.inputs(shades.flatten(1))
        names = ["start", *(f" {shade}" for shade in inputs[0, 1:].tolist())]
        kept, seed = shades[:KEPT], self.config.seed
        completed = self.model.complete(kept, kept.shape[1] // 2, seed=seed)
        drawn = self.model.draw(DRAWN, seed=seed)
        shown = {"truth": kept, "completed": completed, "drawn": drawn}
        scale = 255 / (self.data.levels - 1)
        arrays = {n: np.rint(x.cpu().numpy() * scale).astype(np.uint8) for n, x in shown.items()}
        return at_work(self.model, inputs, names) | {IMAGES: arrays}

    def save(self, directory: Path) -> None:
        """The model."""
        self.model.save_pretrained(directory)


def _colours(train: ImageSplit) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of images in [0, 1]."""
    pixels = getattr(train, "pixels", None)
    if pixels is None:
        return COLOURS
    # By counting the 256 shades: the images are not copied as floats.
    counts = [np.bincount(pixels[:, i].ravel(), minlength=256) for i in range(pixels.shape[1])]
    shades = np.arange(256) / 255
    means = [float((c * shades).sum() / c.sum()) for c in counts]
    spreads = [
        math.sqrt(float((c * (shades - mean) ** 2).sum() / c.sum()))
        for c, mean in zip(counts, means, strict=True)
    ]
    return tuple(means), tuple(max(each, 1e-3) for each in spreads)
