"""One run on the Trainer of transformers, with our metrics and schedule, by its call-backs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...files import fault, why_not_whole, write_atomically, write_sums
from ...integrations.libraries import need, quiet
from ..kit.config import RunConfig
from ..kit.folder import METRICS
from ..kit.machine import with_this_machine
from ..kit.metrics import Metrics, read_metrics
from ..kit.optimizer import Report, build_optimizer, check_finite, learning_rate

if TYPE_CHECKING:
    from .task import AdaptersTask

CHECKPOINTS = "checkpoints"  # the Trainer's, in the run's folder
MADE_WITH = "made_with.json"  # beside them: what the run ran on so far


class TrainerRun:
    """Trains an ``AdaptersTask`` to the end; the same to the loop as its own runs.

    The Trainer brings precision, activation checkpointing and devices; batches, optimiser, schedule
    and evaluation are those of every other run here.
    """

    def __init__(self, task: AdaptersTask, config: RunConfig, directory: Path) -> None:
        self.task, self.config, self.directory = task, config, directory
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self.made_with: list[dict[str, str]] = []

    def resume(self) -> None:
        """Find the last checkpoint written whole, in which are the rows of metrics up to it."""
        self.checkpoint = None
        for folder in sorted(self._checkpoints(), key=_step_of, reverse=True):
            if self.checkpoint is None and why_not_whole(folder) is None:
                self.checkpoint, self.step = folder, _step_of(folder)
            else:
                shutil.rmtree(folder)
        rows = [] if self.checkpoint is None else read_metrics(self.checkpoint / METRICS)
        if self.checkpoint is not None:
            self.made_with = json.loads((self.checkpoint / MADE_WITH).read_text())
        self.made_with = with_this_machine(self.made_with)
        self.metrics = Metrics(self.directory / METRICS, rows)
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
            check_finite({f"valid_loss at step {step}": row["valid_loss"]}, self.directory.name)
            self.metrics.write(row)
            fault("metrics-written")
        self.report(step, self.last)

    def seal(self, step: int) -> None:
        """Put the rows of metrics into a checkpoint, and checksums of all that is in it."""
        folder = self.directory / CHECKPOINTS / f"checkpoint-{step}"
        shutil.copyfile(self.metrics.path, folder / METRICS)
        write_atomically(folder / MADE_WITH, json.dumps(self.made_with).encode(), "made-with")
        write_sums(folder)

    def took(self, loss: float) -> None:
        """The loss of one batch."""
        check_finite({f"loss after step {self.step}": loss}, self.directory.name)
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
            run.seal(state.global_step)
            fault("checkpoint-written")

    return Call()


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])
