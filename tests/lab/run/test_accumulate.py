"""A batch read in parts gives the gradient and the losses of the batch read at once."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from resonant.errors import UserError
from resonant.lab.compare.options import check_options
from resonant.lab.domains import EXPERIMENTS, build_task, describe
from resonant.lab.kit.config import RunConfig
from resonant.lab.kit.task import Divisible
from resonant.lab.run.loop import train

from ..running import write_text

TEXT = {"model.layers": 2, "model.width": 16, "model.heads": 2, "model.hidden": 16}
SMALL = {
    "training.steps": 6,
    "training.batch_size": 4,
    "training.context": 24,
    "training.evaluate_every": 3,
    "training.evaluation_windows": 4,
    "training.sample_tokens": 2,
    "training.warmup": 2,
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


OF_TEXT: dict[str, dict[str, Any]] = {
    "softmax": {},
    "krause-window": {"model.attention.window": 8},
    "softmax-gate": {},
    "softmax-morlet-relative": {},
    "kuramoto": {},
}


def text_config(arm: str, text: Path, **training: Any) -> RunConfig:
    experiment = EXPERIMENTS["stdlib"]
    data = {"data.name": "file", "data.path": str(text)}
    changes = {**SMALL, **TEXT, **OF_TEXT[arm], **data, **training}
    run = experiment.config(experiment.base, experiment.arm(arm), 0, changes)
    return dataclasses.replace(run, corpus=describe(run.data, None).digest)


def image_config(arm: str) -> RunConfig:
    experiment = EXPERIMENTS["digits"]
    changes = {"training.batch_size": 4, "model.width": 16, "model.layers": 2, "model.heads": 2}
    run = experiment.config(experiment.base, experiment.arm(arm), 0, changes)
    return dataclasses.replace(run, corpus=describe(run.data, None).digest)


def gradient(config: RunConfig, parts: int) -> tuple[float, dict[str, Tensor]]:
    task = build_task(config, None)
    assert isinstance(task, Divisible)
    size = config.training.batch_size // parts
    total = 0.0
    for start in range(0, config.training.batch_size, size):
        part = task.part_loss(0, slice(start, start + size)) / parts
        part.backward()
        total += part.item()
    named = task.model.named_parameters()
    return total, {name: p.grad for name, p in named if p.grad is not None}


def check_alike(config: RunConfig) -> None:
    loss, whole = gradient(config, 1)
    for parts in (2, 4):
        again, found = gradient(config, parts)
        assert again == pytest.approx(loss, abs=1e-6)
        assert whole.keys() == found.keys()
        for name, each in found.items():
            torch.testing.assert_close(each, whole[name], atol=2e-6, rtol=1e-4, msg=name)
    assert any(each.abs().max() > 1e-3 for each in whole.values())


@pytest.mark.parametrize("arm", OF_TEXT)
def test_parts_of_a_text_batch_give_its_gradient(arm: str, text: Path) -> None:
    check_alike(text_config(arm, text))


@pytest.mark.parametrize("arm", ["softmax", "krause-grid"])
def test_parts_of_a_batch_of_images_give_its_gradient(arm: str) -> None:
    check_alike(image_config(arm))


def losses(config: RunConfig, folder: Path) -> list[float]:
    train(config, folder, None, lambda step, loss: None)
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [float(row[name]) for row in rows for name in ("train_loss", "valid_loss")]


def test_a_training_in_parts_ends_alike(text: Path, tmp_path: Path) -> None:
    at_once = losses(text_config("krause-window", text), tmp_path / "at-once")
    parts = {"training.accumulate": 2}
    in_parts = losses(text_config("krause-window", text, **parts), tmp_path / "in-parts")
    assert len(at_once) == 4
    assert in_parts == pytest.approx(at_once, abs=1e-5)


def test_products_in_bfloat16_are_near_and_weights_stay_wide(text: Path, tmp_path: Path) -> None:
    wide = losses(text_config("krause-window", text), tmp_path / "wide")
    config = text_config("krause-window", text, **{"training.precision": "bf16"})
    narrow = losses(config, tmp_path / "narrow")
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=0.01)
    weights = safetensors.torch.load_file(tmp_path / "narrow" / "model.safetensors")
    assert {x.dtype for x in weights.values()} == {torch.float32}
    with pytest.raises(UserError, match="float32, bf16"):
        text_config("softmax", text, **{"training.precision": "half"})


def test_what_cannot_be_cut_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 does not divide training\.batch_size 4"):
        text_config("softmax", text, **{"training.accumulate": 3})
    chosen = EXPERIMENTS["align"]
    override = {"training.accumulate": 2}
    runs = [chosen.config(chosen.base, arm, 0, override) for arm in chosen.arms[:2]]
    with pytest.raises(UserError, match="batches of texts, images and pixels alone are cut"):
        check_options(chosen.arms[:2], runs, override)
    with pytest.raises(UserError, match="rows that do not count alike"):
        train(runs[0], tmp_path / "align", None, lambda step, loss: None)
