"""Pictures as tasks: batches, augmentation, accuracy, bits; whole comparisons and kills."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab.domains import EXPERIMENTS, build_task, fit_to_data, read_run
from resonant.lab.kit.config import RunConfig, replaced
from resonant.lab.kit.results import gather
from resonant.lab.report.page import write_figures
from resonant.lab.vision import augmentation, images
from resonant.lab.vision.augmentation import augmented
from resonant.lab.vision.config import ImagesConfig
from resonant.lab.vision.task import ClassesTask, PixelsTask
from tests.lab.running import quality, resonant

DIGITS = EXPERIMENTS["digits"]
SMALL = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.hidden": 16,
    "training.batch_size": 8,
    "training.evaluation_windows": 30,
}
TINY = [
    *(f"--{name}={value}" for name, value in SMALL.items()),
    "--training.steps=6",
    "--training.evaluate_every=2",
    "--training.warmup=2",
    "--seeds=1",
    "--workers=1",
]
PIXELS = ["--data.name=digits", "--data.pool=1", "--model.rows=8", "--model.columns=8"]


def digits(**overrides: Any) -> RunConfig:
    config = DIGITS.config(DIGITS.base, DIGITS.arm("krause-grid-topk"), 0, {})
    return replaced(config, SMALL | {n.replace("__", "."): x for n, x in overrides.items()})


def pixels(**overrides: Any) -> RunConfig:
    experiment = EXPERIMENTS["mnist-pixels"]
    config = experiment.config(experiment.base, experiment.arm("krause-window"), 0, {})
    data = dataclasses.replace(config, data=ImagesConfig("digits", levels=16))
    own = {"model.rows": 8, "model.columns": 8, "model.attention.window": 20}
    given = {n.replace("__", "."): x for n, x in overrides.items()}
    return replaced(data, SMALL | own | given)


class Knowing(torch.nn.Module):
    """Knows every second picture's class, and is sure of a wrong one for the others."""

    def __init__(self, task: ClassesTask) -> None:
        super().__init__()
        self.known = {}
        for split in ("valid", "test"):
            images = task.images.splits[split]
            inputs = task.inputs(images.take(range(len(images))))
            labels = images.labels.copy()
            labels[::2] = (labels[::2] + 1) % 10
            pairs = zip(inputs, labels, strict=True)
            self.known |= {x.numpy().tobytes(): int(y) for x, y in pairs}

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        found = torch.tensor([self.known[x.numpy().tobytes()] for x in pictures])
        return 20.0 * torch.nn.functional.one_hot(found, 10)


def test_accuracy_is_the_share_of_right_classes() -> None:
    task = build_task(digits(training__evaluation_windows=75), None)
    assert isinstance(task, ClassesTask)
    assert 0.0 <= task.finish().metrics["accuracy"] < 0.3
    task.model = Knowing(task)
    found = task.finish()
    assert found.metrics["accuracy"] == 0.5
    by_class = found.facts["by_class"]
    assert list(by_class) == list("0123456789")
    assert [sum(each) for each in zip(*by_class.values(), strict=True)] == [150, 300]
    assert task.evaluate("test") == pytest.approx(10.0, abs=0.01)


def test_a_step_is_a_function_of_seed_and_step_alone() -> None:
    first, second = (build_task(digits(data__augment="published"), None) for _ in range(2))
    second.loss(3)
    torch.rand(7)
    assert first.loss(5).item() == second.loss(5).item() != first.loss(6).item()
    other = build_task(digits(data__augment="published", seed=1), None)
    assert other.loss(5).item() != first.loss(5).item()
    state = torch.get_rng_state()
    first.loss(5)
    assert torch.equal(torch.get_rng_state(), state)  # no dropout here: nothing else draws


def test_inputs_are_standardized() -> None:
    task = build_task(digits(), None)
    assert isinstance(task, ClassesTask)
    train = task.images.splits["train"]
    inputs = task.inputs(train.take(range(len(train))))
    assert inputs.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert inputs.std().item() == pytest.approx(1.0, abs=1e-3)


def test_flips_move_and_mirror_by_a_little() -> None:
    pictures = torch.zeros(64, 3, 32, 32)
    pictures[:, :, 16, 10] = 1.0
    labels = torch.arange(64) % 10
    moved, shares = augmented(pictures, labels, "flips", classes=10, key=(0, 1))
    assert torch.equal(shares, torch.nn.functional.one_hot(labels, 10).float())
    places = moved[:, 0].flatten(1).argmax(1)
    rows, columns = (places // 32).tolist(), (places % 32).tolist()
    assert set(rows) <= set(range(12, 21))
    near, mirrored = set(range(6, 15)), {31 - c for c in range(6, 15)}
    assert set(columns) <= near | mirrored
    assert set(columns) & near
    assert set(columns) & mirrored
    again, _ = augmented(pictures, labels, "flips", classes=10, key=(0, 1))
    assert torch.equal(moved, again)
    kept, _ = augmented(pictures, labels, "none", classes=10, key=(0, 1))
    assert kept is pictures


def test_mixtures_mix_classes_as_they_mix_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture is all one number, that of its class: its mean is that of the shares."""
    monkeypatch.setattr(augmentation, "move", lambda pictures: pictures)
    labels, kinds = torch.arange(10), set()
    for step in range(12):
        pictures = torch.ones(10, 3, 32, 32) * (labels + 1).reshape(-1, 1, 1, 1) / 10
        mixed, shares = augmented(pictures, labels, "published", classes=10, key=(0, step))
        plain = (shares - 0.01) / 0.9  # without smoothing
        assert bool((plain > -1e-5).all())
        assert int((plain > 1e-4).sum(1).max()) <= 2
        expected = (plain * (labels + 1) / 10).sum(1)
        torch.testing.assert_close(mixed.mean((1, 2, 3)), expected, atol=1e-3, rtol=0.0)
        several = max(len(picture.unique()) for picture in mixed)
        kinds.add("mixup" if several == 1 else "cutmix")
    assert kinds == {"mixup", "cutmix"}


def test_bits_are_those_of_the_model() -> None:
    task = build_task(pixels(), None)
    assert isinstance(task, PixelsTask)
    picture = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8) * 4
    shades = task.shades(picture)
    assert shades.shape == (1, 8, 8, 1)
    assert shades.flatten().tolist() == [int(x) // 16 for x in picture.flatten()]
    bits = -task.model.log_likelihood(shades).item() / (64 * np.log(2))
    assert task.bits(shades).item() == pytest.approx(bits, rel=1e-5)
    assert task.evaluate("test") == pytest.approx(4.0, abs=0.3)  # 16 shades, untrained


def test_a_trained_model_finds_moved_pictures_less_likely() -> None:
    task = build_task(pixels(training__batch_size=32), None)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=0.01)
    for step in range(120):
        task.loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert task.evaluate("test") < 2.6
    assert isinstance(task, PixelsTask)
    assert task.metrics()["test_loss_shifted"] > task.evaluate("test") + 0.1


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (digits(model__image_height=16, model__channels=3), "image_height 8 --model.channels 1"),
        (digits(data__levels=16), "is for models of pixels"),
        (pixels(data__augment="flips"), "is for models that tell classes apart"),
        (digits(model__classes=100), "pass --model.classes 10"),
        (pixels(model__rows=9), "pass --model.rows 8"),
        (pixels(data__levels=8), "pass --model.vocabulary 8"),
        (digits(corpus="0" * 64), "changed since this run was planned"),
        (digits(model__attention__mechanism="krausse"), "cannot be built.*krausse"),
    ],
)
def test_what_does_not_fit_is_said(config: RunConfig, says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_task(config, None)


def test_misfits_are_found_before_anything_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["compare", "mnist-pixels", f"--out={out}", "--data.pool=1", "--data.levels=256"]
    assert main(command) == 2
    wanted = "--model.rows 28 --model.columns 28 --model.vocabulary 256"
    assert wanted in capsys.readouterr().err
    assert not out.exists()


def test_models_of_pictures_are_for_pictures() -> None:
    values = dataclasses.asdict(digits())
    text = {"name": "stdlib", "tokens": "bytes", "path": None}
    with pytest.raises(UserError, match="architecture vision cannot be trained on 'stdlib'"):
        build_task(read_run(values | {"data": text}), None)
    with pytest.raises(UserError, match="architecture transformer cannot be trained on 'digits'"):
        build_task(read_run(values | {"model": {"architecture": "transformer"}}), None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for split, count in (("train", 21), ("val", 3)):
        for label, name in enumerate(("ant", "bee")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                made = generator.integers(0, 60, (40, 36 + i, 3)) + 150 * label
                Image.fromarray(made.astype(np.uint8)).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def imagenet(folder: Path, **overrides: Any) -> RunConfig:
    experiment = EXPERIMENTS["imagenet-published"]
    config = experiment.config(experiment.base, experiment.arm("krause-grid-topk"), 0, {})
    own = {"data.path": str(folder), "data.size": 32, "model.patch": 4}
    given = SMALL | own | {"training.batch_size": 16} | overrides
    return fit_to_data(replaced(config, given), None, given)


def test_imagenet_learns_from_generated_pictures(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published recipe at a size for tests: smoke; the real thing was not run."""
    monkeypatch.setattr(images, "HELD_BYTES", 0)  # so many images are streamed
    task = build_task(imagenet(folder), None)
    assert isinstance(task, ClassesTask)
    assert task.reading.mean == pytest.approx((0.485, 0.456, 0.406))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=0.01)
    for step in range(15):
        task.loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert task.finish().metrics["accuracy"] == 1.0
    (folder / "train" / "ant" / "7.png").write_bytes(b"\x89PNG no more")
    train = task.images.splits["train"]
    row = next(i for i, path in enumerate(train.paths) if path.name == "7.png")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"ant/7\.png cannot be read as an image"):
        train.take([0, row])


@pytest.mark.slow
def test_a_comparison_of_pictures_from_beginning_to_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "digits"
    assert main(["compare", "digits", *TINY, f"--out={out}", "--seeds=2"]) == 0
    assert "Accuracy, in % of test pictures" in capsys.readouterr().out
    results = gather(out)
    written = {path.stem for path in write_figures(results, out, tmp_path / "figures")}
    assert {"looks", "depth", "maps-softmax"} <= written
    assert not {"completed", "drawn"} & written
    drawn = tmp_path / "pixels"
    arms = ["--arms=softmax,softmax-window,krause-window-topk,linear"]
    assert main(["compare", "mnist-pixels", *TINY, *PIXELS, *arms, f"--out={drawn}"]) == 0
    assert "Pictures moved down by a row" in capsys.readouterr().out
    written = {p.stem for p in write_figures(gather(drawn), drawn, tmp_path / "figures")}
    assert {"completed", "drawn", "maps-linear"} <= written
    for folder in (out / "softmax-seed0", drawn / "linear-seed0"):
        assert main(["sample", str(folder), "--tokens", "1"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["digits", "mnist-pixels"])
@pytest.mark.parametrize("fault", ["step:4", "metrics-written", "checkpoint-half", "pictures-half"])
def test_killed_and_started_again_it_ends_the_same(
    experiment: str, fault: str, tmp_path: Path
) -> None:
    more = ["--arms=softmax", "--model.dropout=0.1", "--data.augment=published"]
    if experiment == "mnist-pixels":
        more = ["--arms=softmax", *PIXELS]
    command = ["compare", experiment, *TINY, *more]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert resonant(*command, f"--out={whole}").returncode == 0
    assert resonant(*command, f"--out={killed}", fault=fault).returncode != 0
    assert resonant(*command, f"--out={killed}").returncode == 0
    assert quality(killed) == quality(whole)
