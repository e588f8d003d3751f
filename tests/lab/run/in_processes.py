"""One of torchrun's processes: the first gradients and the trainings of several jobs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from resonant.lab.domains import build_task, read_run
from resonant.lab.run.sharded import ShardedRun, make_mesh, process_group, train_in_group


def main() -> None:
    """Write loss and gradient of the first step into each job's folder, then train it."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    with process_group("cpu") as device:
        for path in sys.argv[1:]:
            job = json.loads(Path(path).read_text())
            config, folder = read_run(job["config"]), Path(job["directory"])
            run = ShardedRun(
                build_task(config, None), config, folder, make_mesh(device, job["replicas"])
            )
            loss = run.backward()
            named = run.task.model.named_parameters()
            found = {name: p.grad.full_tensor() for name, p in named if p.grad is not None}  # type: ignore[attr-defined]
            if dist.get_rank() == 0:
                torch.save({"loss": loss, "gradient": found}, folder / "first.pt")
            train_in_group(job, device, lambda step, loss: None)


if __name__ == "__main__":
    main()
