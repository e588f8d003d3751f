"""Time, memory and FLOPs of an arm's training step, in a fresh process of its own.

``python -m resonant.lab.run.cost`` reads a run as JSON, then a line per command: "go" times a
step, "finish" reports memory and FLOPs. The parent lets the arms take turns.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

WARMUP_STEPS = 2  # the second has the optimiser's state


def main() -> None:
    """Serve one arm."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import torch

    from ...memory import peak_bytes, reset_peak
    from ..domains import build_task, read_run, receive
    from ..kit.optimizer import build_optimizer

    torch.set_num_threads(1)
    job = json.loads(sys.stdin.readline())
    config = read_run(job["config"])
    receive(config, job.get("carried"))
    task = build_task(config, None if job["data_dir"] is None else Path(job["data_dir"]))
    optimizer = build_optimizer(task.model, config.training)

    def step(number: int) -> float:
        """Take one step; returns its seconds."""
        started = time.process_time()
        task.loss(number).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - started

    task.loss(0)  # what the process needs at all is loaded before the baseline is taken
    baseline = reset_peak()
    seconds = [step(number) for number in range(WARMUP_STEPS)][-1]
    peak = peak_bytes() - baseline
    channel.write(json.dumps({"step_seconds": seconds}) + "\n")
    for line in sys.stdin:
        if line.strip() == "go":
            channel.write(json.dumps({"step_seconds": step(WARMUP_STEPS)}) + "\n")
        else:
            tokens = task.tokens_per_step
            answer = {
                "peak_bytes": peak,
                "flops_per_token": count_flops(task) / tokens,
                "tokens_per_step": tokens,
            }
            channel.write(json.dumps(answer) + "\n")
            return


def count_flops(task: Any) -> float:
    """Multiplications and additions of forward and backward, all visible or not to the kernel."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The fused CPU kernel is not in the counter's list; its materialized twin is.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        task.loss(0).backward()
    return float(counter.get_total_flops())


if __name__ == "__main__":
    main()
