"""One run on the Trainer of transformers, with our metrics and schedule, by its call-backs."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...files import fault
from ...integrations.libraries import need, quiet
from ..kit.config import RunConfig
from ..kit.folder import METRICS
from ..kit.metrics import Metrics, read_metrics
from ..kit.optimizer import Diverged, Report, build_optimizer, learning_rate

if TYPE_CHECKING:
    from .task import AdaptersTask

CHECKPOINTS = "checkpoints"  # the Trainer's, in the run's folder
STATE = "trainer_state.json"  # what it writes last


class TrainerRun:
    """Trains an ``AdaptersTask`` to the end; the same to the loop as its own runs.

    The Trainer brings precision, activation checkpointing and devices; batches, optimiser, schedule
    and evaluation are those of every other run here.
    """

    def __init__(self, task: AdaptersTask, config: RunConfig, directory: Path) -> None:
        self.task, self.config, self.directory = task, config, directory
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []

    def resume(self) -> None:
        """Find the last checkpoint written whole; rows of metrics beyond it are dropped."""
        self.checkpoint = None
        for folder in sorted(self._checkpoints(), key=_step_of, reverse=True):
            if self.checkpoint is None and _is_whole(folder):
                self.checkpoint, self.step = folder, _step_of(folder)
            else:
                shutil.rmtree(folder)
        self.metrics = Metrics(self.directory / METRICS, keep_until=self.step)
        rows = read_metrics(self.metrics.path)
        self.seconds = rows[-1]["seconds"] if rows else 0.0

    def _checkpoints(self) -> list[Path]:
        return list((self.directory / CHECKPOINTS).glob("checkpoint-*"))

    def until_done(self, report: Report) -> None:
        """Train what is left, from the last checkpoint on."""
        self.report, self.started = report, time.perf_counter() - self.seconds
        if self.step < self.config.training.steps:
            with quiet():
                resumed = None if self.checkpoint is None else str(self.checkpoint)
                self._trainer().train(resume_from_checkpoint=resumed)
        elif self.checkpoint is not None:  # killed between the last step and done.json
            self._read(self.checkpoint)

    def _read(self, folder: Path) -> None:
        """The adapter's weights alone."""
        peft = need("peft")
        weights = peft.utils.load_peft_weights(str(folder))
        peft.set_peft_model_state_dict(self.task.model, weights)

    def _trainer(self) -> Any:
        transformers = need("transformers")
        training = self.config.training
        optimizer = build_optimizer(self.task.model, training)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(training, step) / training.learning_rate
        )
        return _trainer_class(transformers)(
            run=self,
            model=self.task.model,
            args=transformers.TrainingArguments(**self._arguments()),
            train_dataset=_Examples(self.task, training.steps * training.batch_size),
            data_collator=self.task.collated,
            optimizers=(optimizer, schedule),
            callbacks=[_callback(transformers, self)],
        )

    def _arguments(self) -> dict[str, Any]:
        training, model = self.config.training, self.config.model
        return {
            "output_dir": str(self.directory / CHECKPOINTS),
            "max_steps": training.steps,
            "per_device_train_batch_size": training.batch_size,
            "max_grad_norm": training.clip,
            "save_strategy": "steps",
            "save_steps": training.evaluate_every,
            "save_total_limit": 2,
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "seed": self.config.seed,
            "train_sampling_strategy": "sequential",
            "remove_unused_columns": False,
            "dataloader_pin_memory": False,
            "use_cpu": self.task.device.type == "cpu",
            "bf16": model.precision == "bf16",  # type: ignore[union-attr]
            "activation_checkpointing": model.checkpointing,  # type: ignore[union-attr]
        }

    def advanced(self, step: int) -> None:
        """After an optimiser step: say how far it is, and now and then measure."""
        fault("step")
        self.step, self.seconds = step, time.perf_counter() - self.started
        training = self.config.training
        if step % training.evaluate_every == 0 or step == training.steps:
            row = {
                "step": float(step),
                "train_loss": sum(self.losses) / max(1, len(self.losses)),
                "valid_loss": self.task.evaluate("valid"),
                "learning_rate": learning_rate(training, step - 1),
                "seconds": self.seconds,
            }
            self.losses.clear()
            self.metrics.write(row)
            fault("metrics-written")
        self.report(step, self.last)

    def took(self, loss: float) -> None:
        """The loss of one batch."""
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss became {loss} after step {self.step} in {self.directory.name}; lower "
                "--training.learning_rate or --training.clip"
            )
        self.last = loss
        self.losses.append(loss)


class _Examples(torch.utils.data.Dataset):
    """The examples of a whole training, in the order that the seed draws."""

    def __init__(self, task: AdaptersTask, count: int) -> None:
        self.task, self.count = task, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.task.example(index)


def _trainer_class(transformers: Any) -> Callable[..., Any]:
    class Reported(transformers.Trainer):
        """Tells the run each loss."""

        def __init__(self, run: TrainerRun, **options: Any) -> None:
            super().__init__(**options)
            self.run = run

        def training_step(self, *given: Any, **options: Any) -> Tensor:
            loss = super().training_step(*given, **options)
            self.run.took(loss.item())
            return loss

    return Reported


def _callback(transformers: Any, run: TrainerRun) -> Any:
    class Call(transformers.TrainerCallback):
        """Measures after steps."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            run.advanced(state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            fault("checkpoint-written")

    return Call()


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _is_whole(folder: Path) -> bool:
    """Whether a checkpoint was written to its end."""
    try:
        json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return False
    return True
