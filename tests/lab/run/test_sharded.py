"""One run over several processes: the numbers of one, killed anywhere, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from resonant.errors import UserError
from resonant.lab.kit.config import RunConfig
from resonant.lab.run.loop import train
from resonant.lab.run.torchrun import train_in_processes, write_job

from ..running import compare, resonant, write_text
from .test_accumulate import gradient, image_config, text_config

MESHES = (2, 1)  # replicas of two processes: all replicated, all sharded
ARMS = ("softmax", "krause-window", "softmax-gate", "softmax-morlet-relative", "kuramoto", "images")
DROPOUT = {"model.attention.dropout": 0.1}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def config_of(arm: str, text: Path, **changes: Any) -> RunConfig:
    if arm == "images":
        made = image_config("krause-grid")
        training = dataclasses.replace(made.training, steps=6, evaluate_every=3, warmup=2)
        return dataclasses.replace(made, training=training)
    return text_config(arm, text, **changes)


def job_of(config: RunConfig, folder: Path, replicas: int) -> dict[str, Any]:
    said = {"config": dataclasses.asdict(config), "directory": str(folder), "data_dir": None}
    return {**said, "device": "cpu", "processes": 2, "replicas": replicas}


def in_processes(config: RunConfig, folder: Path, replicas: int) -> None:
    train_in_processes(job_of(config, folder, replicas), lambda step, loss: None)


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [float(row[name]) for row in rows for name in ("train_loss", "valid_loss")]


def everything(folder: Path) -> tuple[Any, ...]:
    """What must be equal to the bit: weights, numbers, what was learned, the sample."""
    done = json.loads((folder / "done.json").read_text())
    told = {n: done[n] for n in ("metrics", "learned_numbers", "sample", "steps")}
    weights = (folder / "model.safetensors").read_bytes()
    return weights, told, losses(folder), (folder / "learned.csv").read_text()


@pytest.fixture(scope="module", params=MESHES)
def trained(
    request: pytest.FixtureRequest, text: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Folders of every arm's run in two processes, in which lie its first gradients."""
    root = tmp_path_factory.mktemp("two")
    folders = {arm: root / arm.replace(" ", "-") for arm in ARMS}
    jobs = [
        str(write_job(job_of(config_of(arm, text), folder, request.param)))
        for arm, folder in folders.items()
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.lab.run.in_processes", *jobs]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    return folders


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(
    text: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    for arm, folder in trained.items():
        config = config_of(arm, text)
        found = torch.load(folder / "first.pt")
        loss, expected = gradient(config, 1)
        assert found["loss"] == pytest.approx(loss, abs=1e-6)
        assert found["gradient"].keys() == expected.keys()
        for name, each in expected.items():
            torch.testing.assert_close(found["gradient"][name], each, atol=2e-6, rtol=1e-4)
        alone = tmp_path / folder.name
        train(config, alone, None, lambda step, loss: None)
        assert len(losses(alone)) == 4
        assert losses(folder) == pytest.approx(losses(alone), abs=5e-6)
        one, two = (json.loads((f / "done.json").read_text()) for f in (alone, folder))
        assert two["metrics"] == pytest.approx(one["metrics"], abs=5e-6)
        assert two["parameters"] == one["parameters"]
        weights = [safetensors.torch.load_file(f / "model.safetensors") for f in (alone, folder)]
        assert weights[0].keys() == weights[1].keys()
        assert not list(folder.glob("shards-*"))


POINTS = (
    ("run-started", 0),
    ("step:2", 0),
    ("metrics-written:1", 0),
    ("shards-written:1", 0),
    ("shards-written:2", 0),
    ("checkpoint-written:1", 0),
    ("model-written", 0),
    ("done-written", 0),
    ("run-started", 1),
    ("step:5", 1),
    ("metrics-written:2", 1),
    ("shards-written:2", 1),
    ("checkpoint-written:1", 1),
)


@pytest.fixture(scope="module")
def undisturbed(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Any, ...]]:
    found = {}
    for replicas in MESHES:
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        in_processes(text_config("krause-window", text, **DROPOUT), folder, replicas)
        found[replicas] = everything(folder)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("point", "rank"), POINTS)
def test_a_killed_rank_changes_no_bit(
    point: str,
    rank: int,
    text: Path,
    undisturbed: dict[int, tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, replicas = text_config("krause-window", text, **DROPOUT), 1 + rank
    monkeypatch.setenv("RESONANT_FAULT", f"{point}@{rank}")
    with pytest.raises(RuntimeError, match=r"was killed: .*SIGKILL"):
        in_processes(config, tmp_path / "run", replicas)
    monkeypatch.delenv("RESONANT_FAULT")
    in_processes(config, tmp_path / "run", replicas)
    assert everything(tmp_path / "run") == undisturbed[replicas]


@pytest.mark.slow
def test_a_checkpoint_is_of_so_many_processes(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = text_config("softmax", text), tmp_path / "run"
    monkeypatch.setenv("RESONANT_FAULT", "step:5@0")
    with pytest.raises(RuntimeError):
        in_processes(config, folder, 1)
    monkeypatch.delenv("RESONANT_FAULT")
    with pytest.raises(UserError, match=r"written by 2 processes; go on with --processes 2"):
        train(config, folder, None, lambda step, loss: None)
    with pytest.raises(UserError, match="--replicas 1"):
        in_processes(config, folder, 2)
    shards = next(iter((folder / "shards-3").glob("*.distcp")))
    content = bytearray(shards.read_bytes())
    content[len(content) // 2] ^= 1
    shards.write_bytes(content)
    with pytest.raises(UserError, match="shards-3 is damaged"):
        in_processes(config, folder, 1)


@pytest.mark.slow
def test_the_command_trains_in_processes(text: Path, tmp_path: Path) -> None:
    for name, more in (("one", []), ("two", ["--processes=2"])):
        ended = compare(text, tmp_path / name, "--model.attention.dropout=0", "--no-probe", *more)
        assert ended.returncode in (0, 1), ended.stderr
        assert (tmp_path / name / "report.html").is_file()
    one, two = (losses(tmp_path / n / "krause-window-topk-seed0") for n in ("one", "two"))
    assert two == pytest.approx(one, abs=5e-6)


@pytest.mark.slow
def test_a_job_is_written_for_torchrun(text: Path, tmp_path: Path) -> None:
    given = ["stdlib", "--data.name=file", f"--data.path={text}", "--training.steps=2"]
    given += ["--model.layers=1", "--model.width=16", "--model.heads=2", "--model.hidden=16"]
    given += ["--training.sample_tokens=2", f"--out={tmp_path}", "--processes=2", "--write-job"]
    ended = resonant("train", *given)
    assert ended.returncode == 0, ended.stderr
    command = ended.stdout.split()
    assert command[:3] == ["torchrun", "--nproc-per-node", "2"]
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", *command[1:]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        started, check=True, capture_output=True, text=True, timeout=120, env=environment
    )
    assert json.loads(made.stdout.splitlines()[-1]) == {"event": "done"}
    assert (tmp_path / "softmax-seed0" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("experiment", "options", "why"),
    [
        ("stdlib", ["--processes=0"], "--processes must be at least 1"),
        ("stdlib", ["--processes=4", "--replicas=3"], "3 do not divide 4"),
        ("stdlib", ["--processes=3"], "batch_size 16 is not cut into 3 processes x 1 parts"),
        ("stdlib", ["--write-job"], "say how many by --processes"),
        ("align", ["--processes=2"], "batches of texts, images and pixels alone are cut"),
    ],
)
def test_what_cannot_be_is_refused(
    experiment: str, options: list[str], why: str, tmp_path: Path
) -> None:
    ended = resonant("train", experiment, *options, f"--out={tmp_path}")
    assert ended.returncode == 2
    assert why in ended.stderr


def test_a_process_that_torchrun_did_not_start_is_refused(text: Path, tmp_path: Path) -> None:
    job = write_job(job_of(text_config("softmax", text), tmp_path, 1))
    command = [sys.executable, "-m", "resonant.lab.run.sharded", str(job)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "is started by torchrun" in ended.stderr
