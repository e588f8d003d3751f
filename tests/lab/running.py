"""A comparison of seconds, run as a user would: shared by the tests of workers and errors."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

TINY = [
    "--arms=krause-window-topk",
    "--seeds=1",
    "--workers=1",
    "--training.steps=6",
    "--training.evaluate_every=2",
    "--training.batch_size=2",
    "--training.context=40",
    "--training.evaluation_windows=2",
    "--training.sample_tokens=4",
    "--training.warmup=2",
    "--model.layers=1",
    "--model.width=16",
    "--model.heads=2",
    "--model.hidden=16",
    "--model.attention.dropout=0.1",
    "--model.attention.window=8",
    "--model.attention.top_k=4",
]


# What every finished run says of itself, beside its losses.
FINISHED = {
    "hash": "0" * 64,
    "arm": "softmax",
    "seed": 0,
    "steps": 20,
    "tokens": 2e6,
    "learning_rate": 0.004,
    "metrics": {"valid_loss": 1.0, "test_loss": 1.0},
    "seconds": 1.0,
}


def write_text(folder: Path) -> Path:
    """A text long enough to split, the same for everyone."""
    words = ["attention", "synchronises", "what", "nearby", "tokens", "say", "to", "one", "another"]
    text = " ".join(words[(i * i + 3 * i) % len(words)] for i in range(6000))
    path = folder / "text.txt"
    path.write_text(text)
    return path


def resonant(
    *arguments: str, fault: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "RESONANT_FAULT"}
    if fault is not None:
        environment["RESONANT_FAULT"] = fault
    return subprocess.run(
        [sys.executable, "-m", "resonant.cli.main", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=240,
    )


def compare(
    text: Path, out: Path, *more: str, fault: str | None = None
) -> subprocess.CompletedProcess[str]:
    """A comparison of one arm on ``text``; it may miss the demo's ceilings, which is status 1."""
    source = [f"--data.path={text}", "--data.name=file", f"--out={out}"]
    return resonant("compare", "stdlib", *source, *TINY, *more, fault=fault)


def quality(out: Path) -> dict[str, object]:
    """Everything about a comparison that must not depend on kills: all but times."""
    found: dict[str, object] = {}
    for done in sorted(out.glob("*/done.json")):
        content = json.loads(done.read_text())
        content.pop("seconds")
        with (done.parent / "metrics.csv").open() as file:
            rows = [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(file)]
        found[done.parent.name] = (content, rows, (done.parent / "model.safetensors").read_bytes())
    return found
