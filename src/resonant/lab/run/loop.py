"""One run: train, measure, checkpoint, finish; killed anywhere, it resumes to the same numbers."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import filelock
import torch
import yaml
from torch import nn

from ...errors import UserError
from ...files import fault, sealed, unsealed, write_atomically
from ...models.base import learned_numbers
from ..domains import build_task, domain_of
from ..kit.config import RunConfig, config_hash
from ..kit.contents import write_arrays
from ..kit.folder import CHECKPOINT, CONFIG, DONE, LEARNED, LOCK, METRICS
from ..kit.generators import generator_states, restore_generators
from ..kit.machine import with_this_machine
from ..kit.metrics import Metrics, Row
from ..kit.optimizer import Report, build_optimizer, check_finite, learning_rate
from ..kit.plugins import check_plugins, import_plugins
from ..kit.task import Divisible, Runner, Task

LOCK_SECONDS = 60.0
SHARDS = "shards"  # in a checkpoint of several processes: the folder of their parts


def train(
    config: RunConfig,
    directory: Path,
    data_dir: Path | None,
    report: Report,
    *,
    device: str = "cpu",
) -> None:
    """Train ``config`` in ``directory`` until ``done.json`` is there.

    Elsewhere than on the CPU (untested) a resumed run with dropout draws other noise.
    Goes on from ``last.ckpt`` if there is one. ``report(step, loss)`` is called after each step.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # The system frees the lock of a dead process; a killed parent's worker may live for a moment.
    with filelock.FileLock(directory / LOCK, timeout=LOCK_SECONDS):
        task = begin(config, directory, data_dir, device=device)
        state: Runner = resolve_name(domain_of(config).runner)(task, config, directory)
        state.resume()
        state.until_done(report)
        finish(task, config, directory, seconds=state.seconds, made_with=state.made_with)


def begin(
    config: RunConfig, directory: Path, data_dir: Path | None, *, device: str, write: bool = True
) -> Task:
    """Build the task of a run; ``write`` what it is of into its folder."""
    fault("run-started")
    if write:
        values = json.loads(json.dumps(dataclasses.asdict(config)))
        described = yaml.safe_dump(values, sort_keys=False)
        write_atomically(directory / CONFIG, described.encode(), "config")
    import_plugins(config.plugins)
    check_plugins(config.plugins, config.sources)
    return build_task(config, data_dir, device)


def finish(
    task: Task,
    config: RunConfig,
    directory: Path,
    *,
    seconds: float,
    made_with: list[dict[str, str]],
) -> None:
    """Measure the trained model, keep it and what pictures need, write ``done.json`` last.

    Raises ``Diverged`` for a loss that is no number.
    """
    outcome = task.finish()
    check_finite(outcome.metrics, directory.name)
    task.save(directory)
    for name, arrays in outcome.arrays.items():
        write_arrays(directory / name, arrays)
    fault("model-written")
    training = config.training
    done = {
        "hash": config_hash(config),
        "arm": config.arm,
        "seed": config.seed,
        "steps": training.steps,
        "tokens": training.steps * task.tokens_per_step,
        "learning_rate": training.learning_rate,
        "metrics": {name: float(x) for name, x in outcome.metrics.items()},
        "seconds": seconds,
        "made_with": made_with,
        **outcome.facts,
    }
    write_atomically(directory / DONE, json.dumps(done, indent=2).encode(), "done")
    fault("done-written")


class Run:
    """The state that a checkpoint holds: model, optimiser, step and time, at a row of metrics.

    Batches depend on seed and step alone, so there is no loader to save; the generators are.
    """

    def __init__(self, task: Task, config: RunConfig, directory: Path) -> None:
        if config.training.accumulate > 1 and not isinstance(task, Divisible):
            raise UserError(
                "training.accumulate cuts batches of texts, images and pixels alone: those of "
                f"{config.data.name} have rows that do not count alike; leave it out"
            )
        self.task, self.training, self.directory = task, config.training, directory
        self.hash = config_hash(config)
        self.optimizer = build_optimizer(task.model, config.training)
        self.step, self.seconds, self.loss_sum = 0, 0.0, 0.0
        self.made_with: list[dict[str, str]] = []

    def resume(self) -> None:
        """Take up ``last.ckpt``, in which are the rows of metrics.csv up to it."""
        checkpoint = self.directory / CHECKPOINT
        kept: list[Row] = []
        learned: list[Row] = []
        if checkpoint.is_file():
            saved = torch.load(io.BytesIO(unsealed(checkpoint)), "cpu", weights_only=True)
            self._check_own(saved, SHARDS not in saved)
            self.task.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            restore_generators(saved["generators"])
            kept, learned = self._take(saved)
        self._begin_metrics(kept, learned)

    def _check_own(self, saved: Mapping[str, Any], alike: bool) -> None:
        """Refuse a checkpoint of another configuration, or of another number of processes."""
        checkpoint = self.directory / CHECKPOINT
        if saved["hash"] != self.hash:
            raise UserError(
                f"{checkpoint} belongs to a run of another configuration; delete its folder, "
                "or choose another --out"
            )
        if not alike:
            processes, (replicas, _) = saved.get("processes", 1), saved.get("mesh", (1, 1))
            raise UserError(
                f"{checkpoint} was written by {processes} process{'es' * (processes > 1)}; go on "
                f"with --processes {processes} --replicas {replicas}, or delete its folder"
            )

    def _take(self, saved: Mapping[str, Any]) -> tuple[list[Row], list[Row]]:
        """Take up what a checkpoint says beside the state; returns its rows."""
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.made_with = saved["made_with"]
        return saved["metrics"], saved["learned"]

    def _begin_metrics(self, kept: list[Row], learned: list[Row]) -> None:
        """Begin the files of rows with those that the checkpoint vouches for."""
        self.made_with = with_this_machine(self.made_with)
        self.metrics = Metrics(self.directory / METRICS, kept)
        names = tuple(self._learned())
        self.learned = None
        if len(names) > 1:
            self.learned = Metrics(self.directory / LEARNED, learned, columns=names)
            if self.step == 0:
                self.learned.write(self._learned())

    def _learned(self) -> dict[str, float]:
        """Learned scalars now, one number a head each."""
        values = learned_numbers(self.task.model)
        flat = {f"{name}[{i}]": x for name, each in values.items() for i, x in enumerate(each)}
        return {"step": float(self.step), **flat}

    def until_done(self, report: Report) -> None:
        training = self.training
        self.task.model.train()
        started = time.perf_counter() - self.seconds
        while self.step < training.steps:
            loss = self._advance()
            fault("step")
            self.seconds = time.perf_counter() - started
            if self.step % training.evaluate_every == 0 or self.step == training.steps:
                self._record()
            report(self.step, loss)

    def _advance(self) -> float:
        rate = learning_rate(self.training, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value = self.backward()
        nn.utils.clip_grad_norm_(self.task.model.parameters(), self.training.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        check_finite({f"loss of step {self.step}": value}, self.directory.name)
        self.loss_sum += value
        self.step += 1
        return value

    def backward(self) -> float:
        """Add up the gradient of the step's batch, part by part; returns its mean loss."""
        total, parts = 0.0, self.training.accumulate
        if parts == 1:
            with self._autocast():
                loss = self.task.loss(self.step)
            loss.backward()
            return loss.item()
        assert isinstance(self.task, Divisible)
        size = self.training.batch_size // parts
        for start in range(0, parts * size, size):
            with self._autocast():
                part = self.task.part_loss(self.step, slice(start, start + size)) / parts
            part.backward()
            total += part.item()
        return total

    def _autocast(self) -> torch.autocast:
        """Round products to bfloat16 inside the block, where the configuration says so."""
        device = next(self.task.model.parameters()).device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.training.precision == "bf16")

    def _record(self) -> None:
        """A row of metrics, then the checkpoint that vouches for it."""
        every = self.training.evaluate_every
        since = self.step % every or every
        row = {
            "step": float(self.step),
            "train_loss": self.loss_sum / since,
            "valid_loss": self.task.evaluate("valid"),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": self.seconds,
        }
        self.loss_sum = 0.0
        check_finite({f"valid_loss at step {self.step}": row["valid_loss"]}, self.directory.name)
        self._write(row)
        fault("metrics-written")
        self._keep()
        fault("checkpoint-written")

    def _write(self, row: Row) -> None:
        """Append a row of metrics, and one of learned scalars."""
        self.metrics.write(row)
        if self.learned is not None:
            self.learned.write(self._learned())

    def _keep(self) -> None:
        """Write the checkpoint."""
        model, optimizer = self.task.model.state_dict(), self.optimizer.state_dict()
        state = {"model": model, "optimizer": optimizer, "generators": generator_states()}
        self._seal(state)

    def _seal(self, state: Mapping[str, Any]) -> None:
        """Write ``state`` with the rows up to it."""
        buffer = io.BytesIO()
        said = {
            "hash": self.hash,
            "step": self.step,
            "seconds": self.seconds,
            "metrics": self.metrics.rows,
            "learned": [] if self.learned is None else self.learned.rows,
            "made_with": self.made_with,
        }
        torch.save({**said, **state}, buffer)
        write_atomically(self.directory / CHECKPOINT, sealed(buffer.getvalue()), "checkpoint")
