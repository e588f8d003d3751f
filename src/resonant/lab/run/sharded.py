"""One run over several processes: shards of its weights, parts of its batches.

A process is started by torchrun, here by ``resonant train --processes N``, on a cluster by

    torchrun --nnodes M --nproc-per-node N -m resonant.lab.run.sharded JOB

where JOB is the file ``job.json`` that ``resonant train --processes N --write-job`` leaves in the
run's folder. The engine is PyTorch's own: ``fully_shard`` on a mesh (replicate, shard), checkpoints
by ``torch.distributed.checkpoint``.
"""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import filelock
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from ...errors import UserError
from ...files import fault, unsealed, why_not_whole, write_sums
from ..kit.config import RunConfig
from ..kit.folder import CHECKPOINT, LOCK
from ..kit.generators import generator_states, restore_generators, seed_generators
from ..kit.metrics import Row
from ..kit.optimizer import Report
from ..kit.task import Divisible, Task
from .loop import LOCK_SECONDS, SHARDS, Run, begin, finish
from .torchrun import WATCHED

REPLICATE, SHARD = "replicate", "shard"  # axes of the mesh
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)  # gathered, on the first rank


@contextmanager
def process_group(device: str) -> Iterator[torch.device]:
    """Join the processes that torchrun started, inside the block; gives this one's device."""
    if "RANK" not in os.environ:
        raise UserError(
            "resonant.lab.run.sharded is started by torchrun, which says what rank a process has; "
            "see `resonant train --processes`"
        )
    own = torch.device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
    try:
        yield own
    finally:
        dist.destroy_process_group()


def make_mesh(device: torch.device, replicas: int) -> DeviceMesh:
    """Lay the processes out as (replicate, shard).

    Raises ``UserError`` for replicas that do not divide them.
    """
    world = dist.get_world_size()
    if world % replicas:
        raise UserError(f"--replicas divide the processes; {replicas} do not divide {world}")
    axes = (replicas, world // replicas)
    return init_device_mesh(device.type, axes, mesh_dim_names=(REPLICATE, SHARD))


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Cut the parameters of ``model`` in shards, those of a block gathered when it runs.

    The units are what module lists hold, and the whole; a smaller unit may return its own
    parameter, which is gone when the unit has run.
    """
    lists = [each for each in model.modules() if isinstance(each, nn.ModuleList)]
    for block in (block for each in reversed(lists) for block in each):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


class ShardedRun(Run):
    """A run whose weights, gradients and optimiser are cut in shards, its batches in parts.

    Every rank reads its rows of the step's batch; gradients are means over all of them, so the
    numbers are those of one process, but for the order of sums. Evaluation runs on all ranks, each
    reading everything. The first rank writes, and keeps the model whole (``plain``) for what is
    measured at the end.
    """

    task: Divisible

    def __init__(self, plain: Task, config: RunConfig, directory: Path, mesh: DeviceMesh) -> None:
        if not isinstance(plain, Divisible):
            raise UserError(
                "several processes train texts, images and pixels alone: batches of "
                f"{config.data.name} have rows that do not count alike; leave --processes out"
            )
        self.plain, self.mesh = plain, mesh
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        parts = self.world * config.training.accumulate
        if config.training.batch_size % parts:
            raise UserError(
                f"training.batch_size {config.training.batch_size} is not cut into {self.world} "
                f"processes x {config.training.accumulate} parts of one size"
            )
        task = copy.copy(plain)
        if self.rank == 0:
            task.model = copy.deepcopy(plain.model)  # type: ignore[misc]
        shard(task.model, mesh)
        super().__init__(task, config, directory)
        seed_generators(config.seed * self.world + self.rank)  # dropout is drawn apart

    def resume(self) -> None:
        """Take up the last checkpoint, of as many processes."""
        path = self.directory / CHECKPOINT
        kept: list[Row] = []
        learned: list[Row] = []
        if path.is_file():
            saved = torch.load(io.BytesIO(unsealed(path)), "cpu", weights_only=True)
            axes = [self.mesh.size(0), self.mesh.size(1)]
            self._check_own(saved, saved.get("mesh") == axes)
            self._load(self.directory / saved[SHARDS])
            restore_generators(saved["generators"][self.rank])
            kept, learned = self._take(saved)
        dist.barrier()  # all have read it
        self.gather()
        if self.rank == 0:
            self._begin_metrics(kept, learned)

    def _load(self, folder: Path) -> None:
        why = why_not_whole(folder)
        if why is not None:
            raise UserError(f"{folder} is damaged ({why}); delete the folder of the run")
        state = self._state()
        state_dict_loader.load(state, checkpoint_id=folder)
        set_model_state_dict(self.task.model, state["model"])
        set_optimizer_state_dict(
            self.task.model, self.optimizer, optim_state_dict=state["optimizer"]
        )

    def _state(self) -> dict[str, Any]:
        model = self.task.model
        return {
            "model": get_model_state_dict(model),
            "optimizer": get_optimizer_state_dict(model, self.optimizer),
        }

    def gather(self) -> None:
        """Bring the weights of the whole model to the first rank."""
        weights = get_model_state_dict(self.task.model, options=FULL)
        if self.rank == 0:
            self.plain.model.load_state_dict(weights)

    def backward(self) -> float:
        total = torch.zeros((), dtype=torch.float64)
        size = self.training.batch_size // (self.world * self.training.accumulate)
        for part in range(self.training.accumulate):
            start = (part * self.world + self.rank) * size
            with self._autocast():
                loss = self.task.part_loss(self.step, slice(start, start + size))
            (loss / self.training.accumulate).backward()
            total += loss.item() / self.training.accumulate
        return float(self._mean(total))

    def _advance(self) -> float:
        loss = super()._advance()
        self._agree()
        return loss

    @torch.no_grad()
    def _agree(self) -> None:
        """Put means over the ranks in the place of what each saw of its rows alone."""
        for module in self.task.model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    setattr(module, name, self._mean(buffer.clone()))

    def _mean(self, x: Tensor) -> Tensor:
        x = x.to(self.mesh.device_type)
        dist.all_reduce(x)
        return x / self.world

    def _learned(self) -> dict[str, float]:
        own, self.task = self.task, self.plain  # type: ignore[assignment]
        try:
            return super()._learned()
        finally:
            self.task = own

    def _write(self, row: Row) -> None:
        self.gather()
        if self.rank == 0:
            super()._write(row)

    def _keep(self) -> None:
        """Write shards, then the file that names them; the shards before go last."""
        folder = self.directory / f"shards-{self.step}"
        if self.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)  # of a process killed here
        dist.barrier()
        state_dict_saver.save(self._state(), checkpoint_id=folder)
        fault("shards-written")
        generators: list[Any] = [None] * self.world
        dist.all_gather_object(generators, generator_states())
        if self.rank == 0:
            write_sums(folder)
            axes = [self.mesh.size(0), self.mesh.size(1)]
            said = {SHARDS: folder.name, "mesh": axes, "processes": self.world}
            self._seal({**said, "generators": generators})
            for other in self.directory.glob("shards-*"):
                if other != folder:
                    shutil.rmtree(other)
        dist.barrier()


def train_sharded(job: Mapping[str, Any], report: Report) -> None:
    """Train the run of ``job`` as one of torchrun's processes, until ``done.json`` is there."""
    with process_group(job["device"]) as device:
        train_in_group(job, device, report)


def train_in_group(job: Mapping[str, Any], device: torch.device, report: Report) -> None:
    """Train the run of ``job`` with the other processes of the group."""
    from ..domains import read_run, receive

    if job["processes"] != dist.get_world_size():
        raise UserError(
            f"this run is one of --processes {job['processes']}, and torchrun started "
            f"{dist.get_world_size()}; start as many (--nnodes times --nproc-per-node)"
        )
    config, directory = read_run(job["config"]), Path(job["directory"])
    data_dir = None if job["data_dir"] is None else Path(job["data_dir"])
    receive(config, job.get("carried"))
    directory.mkdir(parents=True, exist_ok=True)
    first = dist.get_rank() == 0
    held = filelock.FileLock(directory / LOCK, timeout=LOCK_SECONDS)
    with held if first else nullcontext():
        plain = begin(config, directory, data_dir, device=str(device), write=first)
        run = ShardedRun(plain, config, directory, make_mesh(device, job["replicas"]))
        run.resume()
        run.until_done(report if first else lambda step, loss: None)
        run.gather()
        if first:
            finish(plain, config, directory, seconds=run.seconds, made_with=run.made_with)
            for shards in directory.glob("shards-*"):
                shutil.rmtree(shards)
        dist.barrier()


def main() -> None:
    """Train the run that the file on the command line describes."""
    from .worker import serve_one

    if os.environ.get(WATCHED):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(serve_one(json.loads(Path(sys.argv[1]).read_text()), train_sharded))


def _end_with_parent() -> None:
    """End this process when whoever started torchrun is gone, however it went."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
