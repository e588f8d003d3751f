"""A problem of one's own as a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_model
from torch import Tensor

from ...diagnostics import attention_layers
from ...errors import UserError, in_words
from ...files import MODEL_CONFIG, WEIGHTS
from ...models.base import learned_numbers
from ..kit.config import RunConfig
from ..kit.generators import kept_generators, seed_generators
from ..kit.summary import LOOKED_AT, at_work, model_summary
from ..kit.task import Outcome
from .making import build, calling, made_for

LEAST = 2  # axes of what attention reads: rows and tokens


class ProblemTask:
    """The loss and the scores of a problem of one's own."""

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        del data_dir  # the problem says where its data are
        self.config, self.device = config, torch.device(device)
        self.problem, arm = made_for(config)
        seed_generators(config.seed)
        self.model = build(self.problem, arm, config)
        with kept_generators():  # what would fail in the end fails before training
            self._inputs()
            self._count()
            self._means("valid", scores=True, most=1)
        self.start = learned_numbers(self.model)

    def loss(self, step: int) -> Tensor:
        """The loss of the batch of ``step``."""
        with calling(self.config.name):
            batch = self.problem.batch("train", self.config.seed, step)
            found = self.problem.loss(self.model, batch)
        self._check_loss(found)
        if not found.requires_grad:
            kind = type(self.problem).__name__
            raise UserError(f"{kind}.loss does not depend on the model's parameters")
        return found

    def _check_loss(self, found: Any) -> None:
        if not isinstance(found, Tensor) or found.dim() != 0:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"{type(self.problem).__name__}.loss returns {shape}; return a tensor without "
                "axes that depends on the model's parameters"
            )

    def evaluate(self, split: str) -> float:
        """The mean loss over the batches of ``split``."""
        return self._means(split, scores=False)["loss"]

    @torch.no_grad()
    def _means(self, split: str, *, scores: bool, most: int | None = None) -> dict[str, float]:
        """Mean over batches (``most`` at most) of the loss, and of the problem's own scores."""
        count = self.problem.valid_batches if split == "valid" else self.problem.test_batches
        count = count if most is None else min(count, most)
        self.model.eval()
        found: dict[str, list[float]] = {}
        for step in range(count):
            with calling(self.config.name):
                batch = self.problem.batch(split, 0, step)
                loss = self.problem.loss(self.model, batch)
                self._check_loss(loss)
                each = {"loss": float(loss)}
                if scores:
                    each |= self._scores(self.problem.metrics(self.model, batch))
            if found and each.keys() != found.keys():
                odd = ", ".join(sorted(each.keys() ^ found.keys()))
                kind = type(self.problem).__name__
                raise UserError(
                    f"{kind}.metrics gives {odd} in some batches of {split} alone; give the same "
                    "names in every batch"
                )
            for name, value in each.items():
                found.setdefault(name, []).append(value)
        self.model.train()
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _scores(self, measured: Mapping[str, Any]) -> dict[str, float]:
        if "loss" in measured:
            raise UserError("metrics(model, batch) returns a 'loss', which is measured anyway")
        return {str(name): float(value) for name, value in measured.items()}

    @property
    def tokens_per_step(self) -> int:
        """What the first batch holds."""
        return self._count()

    def _count(self) -> int:
        with calling(self.config.name):
            found = self.problem.count(self.problem.batch("train", self.config.seed, 0))
        if type(found) is not int or found < 1:
            kind = type(self.problem).__name__
            raise UserError(f"{kind}.count(batch) returns {found!r}; return how many it holds")
        return found

    def _inputs(self) -> Tensor:
        """What the model is called with on the first validation batch."""
        with calling(self.config.name):
            found = self.problem.inputs(self.problem.batch("valid", 0, 0))
        if not isinstance(found, Tensor):
            kind = type(self.problem).__name__
            raise UserError(
                f"{kind}.inputs(batch) returns a {type(found).__name__}; return the tensor that "
                "the model is called with"
            )
        return found

    def finish(self) -> Outcome:
        """Losses and scores of both splits, sizes, and the attention of a validation batch."""
        found = {
            f"{split}_{name}": value
            for split in ("valid", "test")
            for name, value in self._means(split, scores=True).items()
        }
        facts = model_summary(self.model, self.start, self.device)
        layers = [module for _, module in attention_layers(self.model)]
        inside = {id(p): p.numel() for module in layers for p in module.parameters()}
        facts["attention_parameters"] = sum(inside.values())
        arrays, unseen = self._at_work()
        return Outcome(found, facts | ({"unseen": unseen} if unseen else {}), arrays)

    def _at_work(self) -> tuple[dict[str, dict[str, np.ndarray]], str]:
        """What attention does with a validation batch, nothing of a model without any; or why not.

        It is why not where the model is called otherwise than by its loss.
        """
        inputs = self._inputs()
        if inputs.dim() < LEAST or not any(True for _ in attention_layers(self.model)):
            return {}, ""
        inputs = inputs[:LOOKED_AT]
        try:
            return at_work(self.model, inputs, [str(i) for i in range(inputs.shape[1])]), ""
        except Exception as error:  # of whatever class: the model is the user's
            return {}, f"called with inputs(batch) it raises {in_words(error)}"

    def save(self, directory: Path) -> None:
        """The model's weights; its code is the problem's."""
        save_model(self.model, str(directory / WEIGHTS))
        (directory / MODEL_CONFIG).write_text('{"architecture": "problem"}\n')
