"""Alignment as a task: what is measured, what is kept, and runs that survive being killed."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resonant.lab.alignment.conditions import CONDITIONS
from resonant.lab.alignment.frames import DECODED
from resonant.lab.alignment.symbols import Utterances, utterances
from resonant.lab.alignment.task import AlignmentTask
from resonant.lab.domains import EXPERIMENTS
from resonant.models.frames import Decoded

from ..running import quality, resonant

ALIGN = EXPERIMENTS["align"]
TINY = [
    "--arms=softmax-guided,clock,next-clock",
    "--seeds=2",
    "--workers=2",
    "--training.steps=4",
    "--training.evaluate_every=2",
    "--training.batch_size=2",
    "--training.evaluation_windows=2",
    "--training.warmup=2",
    "--model.width=16",
    "--model.heads=2",
    "--model.hidden=16",
    "--model.encoder_hidden=16",
    "--model.layers=1",
    "--model.encoder_layers=1",
    "--data.shortest=3",
    "--data.longest=5",
]


def compare(out: Path, fault: str | None = None) -> subprocess.CompletedProcess[str]:
    return resonant("compare", "align", f"--out={out}", *TINY, fault=fault)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("align")
    done = compare(out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("point", ["step:3", "checkpoint-written:2", "alignment-half"])
def test_killed_and_started_again(point: str, finished: tuple[Path, str], tmp_path: Path) -> None:
    killed = compare(tmp_path, fault=point)
    assert killed.returncode != 0
    again = compare(tmp_path)
    assert again.returncode == 0, again.stderr
    assert quality(tmp_path) == quality(finished[0])
    for kept in finished[0].glob("*/alignment.npz"):
        ours = np.load(tmp_path / kept.parent.name / kept.name)
        with np.load(kept) as theirs:
            assert set(ours) == set(theirs)
            assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_tables_and_pictures_of_alignment(finished: tuple[Path, str]) -> None:
    out, said = finished
    page = (out / "report.html").read_text()
    headings = (
        "Boundary error by tempo, in frames",
        "Squared error per number of a frame by tempo",
        "Differences of boundary error, in frames",
        "Differences of squared error per number of a frame",
        "Alignment at the tempo of training",
        "Decoding that hears only itself",
    )
    for heading in headings:
        assert heading in page
        assert heading in " ".join(said.split())  # titles are folded to their tables
    for heading in ("Where frames look", "How clocks run"):
        assert heading in page
    # Tempi, weights, clocks, curves, budget, learned scalars; no arm has its control here.
    assert page.count("<svg") == 6
    assert "nats" not in page
    assert "What the models write" not in page
    assert "stretched durations" in said
    done = json.loads((out / "next-clock-seed0" / "done.json").read_text())
    value = done["metrics"]["boundary_error@0.6"]
    other = json.loads((out / "next-clock-seed1" / "done.json").read_text())
    mean = (value + other["metrics"]["boundary_error@0.6"]) / 2
    assert f"{mean:.2f}" in said
    assert done["head"][0] == 0
    assert 0 <= done["head"][1] < 2
    assert 0 < done["tokens"] < 4 * 2 * 5 * 12


class Knowing(AlignmentTask):
    """Its weights are the truth, in one head, and nonsense in the others."""

    knows = (1, 2)

    def weights(self, batch: Utterances) -> Tensor:
        frames = torch.arange(batch.frames.shape[1])
        ends = batch.durations.cumsum(1)
        path = (frames[None, :, None] >= ends.unsqueeze(1)).sum(-1)
        path = path.clamp(max=batch.symbols.shape[1] - 1)
        weights = torch.rand(2, len(path), 4, path.shape[1], batch.symbols.shape[1])
        layer, head = self.knows
        weights[layer, :, head] = torch.nn.functional.one_hot(path, weights.shape[-1]).float()
        return weights


def test_a_head_that_knows_is_found_and_has_no_error() -> None:
    config = ALIGN.config(ALIGN.base, ALIGN.arm("clock"), 0, {"training.evaluation_windows": 8})
    found = (task := Knowing(config, None)).metrics()
    assert task.head == (1, 2)
    for condition in CONDITIONS:
        for name in ("boundary_error", "search_boundary_error", "duration_error", "skips"):
            assert found[f"{name}@{condition.name}"] == 0.0
        assert found[f"correct@{condition.name}"] == 1.0
        assert 0.0 < found[f"stretched_boundary_error@{condition.name}"] < 4.0
    assert found["stretched_boundary_error@1.6"] < found["stretched_boundary_error@0.6"]


def test_frames_made_on_purpose_at_another_tempo_are_measured_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model that spends on every symbol its duration over the tempo errs by rounding alone."""
    overrides = {"training.evaluation_windows": 2}
    task = AlignmentTask(ALIGN.config(ALIGN.base, ALIGN.arm("next-clock"), 0, overrides), None)
    batch = utterances(task.data, "test", key=(0, 0), count=DECODED)
    asked = []

    def decode(symbols: Tensor, *, most: int, tempo: float, **masks: Any) -> Decoded:
        asked.append((tempo, most))
        lengths = (batch.durations.sum(1) / tempo).round().long()
        middles = (torch.arange(int(lengths.max())) + 0.5) * tempo
        path = (middles[None, :, None] >= batch.durations.cumsum(1).unsqueeze(1)).sum(-1)
        weights = torch.nn.functional.one_hot(path.clamp(max=symbols.shape[1] - 1)).double()
        stopped = torch.arange(len(symbols)) > 0  # all but one
        weights = weights.unsqueeze(1).expand(-1, 4, -1, -1)
        return Decoded(weights[:, 0], lengths, stopped, (weights, weights))

    monkeypatch.setattr(task.model, "decode", decode)
    found = task.metrics()
    longest = int(batch.durations.sum(1).max())
    assert asked == [
        (1.0, 3 * longest),
        (0.7, int(3 * longest / 0.7)),
        (1.4, int(3 * longest / 1.4)),
    ]
    assert found["free_boundary_error"] == found["free_length"] == found["free_skips"] == 0.0
    for pace in ("0.7", "1.4"):
        assert 0.0 < found[f"free_boundary_error@{pace}"] < 0.5
        assert found[f"free_skips@{pace}"] == 0.0
        assert found[f"free_length@{pace}"] < 0.02
        assert found[f"free_no_stop@{pace}"] == pytest.approx(1 / DECODED)


def test_without_jitter_durations_are_known() -> None:
    """The floor is a floor: only rounding is left."""
    overrides = {"data.jitter": 0.0, "training.evaluation_windows": 4}
    config = ALIGN.config(ALIGN.base, ALIGN.arm("clock"), 0, overrides)
    task = AlignmentTask(config, None)
    assert task.stretched_error(task.batches("test")) < 0.35


def test_arms_of_a_seed_see_the_same_batches_and_all_the_same_tests() -> None:
    tasks = [
        AlignmentTask(ALIGN.config(ALIGN.base, ALIGN.arm(name), seed, {}), None)
        for name, seed in (("softmax", 0), ("clock", 0), ("softmax", 1))
    ]
    first, same, other = (task.batch(5) for task in tasks)
    assert torch.equal(first.frames, same.frames)
    assert first.frames.shape != other.frames.shape or not torch.equal(first.frames, other.frames)
    tests = [task.batches("test")[0].frames for task in tasks]
    assert torch.equal(tests[0], tests[1])
    assert torch.equal(tests[0], tests[2])
    assert not torch.equal(tests[0][:1, :50], tasks[0].batches("valid")[0].frames[:1, :50])


def test_the_guide_and_the_stop_are_part_of_the_loss_not_of_the_error() -> None:
    def loss(**changes: object) -> tuple[float, float]:
        overrides = {name.replace("__", "."): value for name, value in changes.items()}
        overrides["training.evaluation_windows"] = 2
        alone = ALIGN.alone("softmax-guided")
        task = AlignmentTask(alone.config(alone.base, alone.arms[0], 0, overrides), None)
        return task.loss(0).item(), task.evaluate("valid")

    guided, error = loss()
    plain, same = loss(model__attention__guide=0.0)
    assert guided > plain + 0.01
    assert error == same
    config = ALIGN.config(ALIGN.base, ALIGN.arm("next-clock"), 0, {})
    task = AlignmentTask(dataclasses.replace(config), None)
    task.loss(0).backward()
    assert task.model.stop is not None
    assert task.model.stop.bias.grad is not None
