"""Sweeps of the learning rate: one grid for all, each arm at its best, kills, what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab.compare.sweep import parse_rates
from resonant.lab.kit.results import Sweep

from ..running import quality, resonant, write_text

pytestmark = pytest.mark.slow  # one comparison of eight runs is shared by all
ARMS = ["softmax", "kuramoto"]
TINY = [
    f"--arms={','.join(ARMS)}",
    "--seeds=2",
    "--workers=2",
    "--training.steps=4",
    "--training.evaluate_every=2",
    "--training.batch_size=2",
    "--training.context=24",
    "--training.evaluation_windows=2",
    "--training.sample_tokens=2",
    "--training.warmup=1",
    "--model.layers=1",
    "--model.width=16",
    "--model.heads=2",
    "--model.hidden=16",
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def sweep(text: Path, out: Path, *more: str, fault: str | None = None) -> Any:
    source = [f"--data.path={text}", "--data.name=file", f"--out={out}"]
    return resonant("compare", "stdlib", *source, *TINY, *(more or ["--sweep=lr"]), fault=fault)


@pytest.fixture(scope="module")
def swept(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("swept")
    finished = sweep(text, out)
    assert (out / "report.html").is_file(), finished.stderr
    return out, finished.stdout


def test_every_arm_at_every_rate_then_each_at_its_best(swept: tuple[Path, str]) -> None:
    out, said = swept
    found = json.loads((out / "sweep.json").read_text())
    assert found["rates"] == [0.008, 0.016, 0.032, 0.064]  # of the experiment's 0.016
    assert found["seed"] == 0
    assert len(list((out / "sweep").glob("*/done.json"))) == 8
    for arm in ARMS:
        losses = {float(rate): loss for rate, loss in found["losses"][arm].items()}
        for rate, loss in losses.items():
            done = json.loads((out / "sweep" / f"{arm}-lr{rate:g}-seed0" / "done.json").read_text())
            assert done["metrics"]["valid_loss"] == loss  # never the test split
            assert done["learning_rate"] == rate
        best = min(losses, key=losses.__getitem__)
        for seed in (0, 1):
            done = json.loads((out / f"{arm}-seed{seed}" / "done.json").read_text())
            assert done["learning_rate"] == best
        assert f"{arm}: {best:g}" in said
    page = (out / "report.html").read_text()
    assert "Learning rates" in page
    assert "peak learning rate" in page  # the picture
    assert page.count("*</td>") == 2
    assert "each arm's best" in said
    assert "softmax-seed0: kept" in said  # the swept seed is not trained twice
    for arm in ARMS:
        mine = json.loads((out / f"{arm}-seed0" / "done.json").read_text())
        same = out / "sweep" / f"{arm}-lr{mine['learning_rate']!r}-seed0" / "done.json"
        assert mine == json.loads(same.read_text())


@pytest.mark.parametrize("point", ["step:3", "sweep-half", "run-adopted"])
def test_killed_and_started_again(
    point: str, text: Path, swept: tuple[Path, str], tmp_path: Path
) -> None:
    killed = sweep(text, tmp_path, fault=point)
    assert killed.returncode != 0
    assert not (tmp_path / "report.html").exists()
    again = sweep(text, tmp_path)
    assert (tmp_path / "report.html").is_file(), again.stderr
    assert quality(tmp_path) == quality(swept[0])
    assert quality(tmp_path / "sweep") == quality(swept[0] / "sweep")
    assert not list(tmp_path.glob(".*.partial"))


def test_a_sweep_that_is_refused_leaves_the_folder_s_report_as_it_was(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rates of many digits; then no sweep; then one that does not fit what lies there."""
    long = "0.0012345678901"
    assert sweep(text, tmp_path, f"--sweep=lr={long},0.0012345678902", "--seeds=1").returncode < 2
    assert (tmp_path / "sweep" / f"kuramoto-lr{long}-seed0" / "done.json").is_file()
    assert "Learning rates" in (tmp_path / "report.html").read_text()
    alone = tmp_path / "alone"
    rate = ["--training.learning_rate=0.001", "--seeds=1", "--arms=kuramoto"]
    assert sweep(text, alone, *rate).returncode < 2
    refused = sweep(text, alone, "--sweep=lr=0.002,0.003", "--seeds=1", "--arms=kuramoto")
    assert refused.returncode == 2
    assert "training.learning_rate was 0.001" in refused.stderr
    assert not (alone / "sweep").exists()  # refused before anything was trained
    assert main(["report", str(alone)]) == 0
    # An older sweep is not shown beside runs at other rates.
    (alone / "sweep.json").write_text((tmp_path / "sweep.json").read_text())
    assert main(["report", str(alone)]) == 0
    assert "Learning rates" not in (alone / "report.html").read_text()
    assert "each arm's best" not in capsys.readouterr().out


def test_a_rate_that_diverges_is_not_chosen(text: Path, tmp_path: Path) -> None:
    huge = sweep(text, tmp_path, "--sweep=lr=0.001,1e35", "--training.clip=1e30", "--seeds=1")
    found = json.loads((tmp_path / "sweep.json").read_text()) if huge.returncode != 2 else None
    assert found is not None, huge.stderr
    assert found["losses"]["softmax"]["1e+35"] is None
    assert "diverged" in huge.stdout
    alone = sweep(text, tmp_path / "b", "--sweep=lr=1e35", "--training.clip=1e30", "--seeds=1")
    assert alone.returncode == 2
    assert "diverged at every rate of the sweep" in alone.stderr


def test_the_best_and_the_edge() -> None:
    losses = {"a": {1.0: 3.0, 2.0: 2.0, 4.0: 2.5}, "b": {1.0: 1.0, 2.0: 2.0, 4.0: math.inf}}
    found = Sweep((1.0, 2.0, 4.0), 0, losses)
    assert (found.best("a"), found.best("b")) == (2.0, 1.0)
    assert not found.at_edge("a")
    assert found.at_edge("b")
    assert not Sweep((1.0,), 0, {"a": {1.0: 3.0}}).at_edge("a")


def test_rates() -> None:
    assert parse_rates(None, 0.004) is None
    assert parse_rates("lr", 0.004) == (0.002, 0.004, 0.008, 0.016)
    assert parse_rates("lr=0.01,0.001", 0.004) == (0.001, 0.01)
    for wrong in ("wd", "lr=", "lr=fast", "lr=0", "lr=-1,2", "lr=inf", "lr=nan"):
        with pytest.raises(UserError, match="--sweep takes lr, or lr with rates above 0"):
            parse_rates(wrong, 0.004)


def test_a_rate_and_a_sweep_of_it_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "--sweep", "lr", "--training.learning_rate", "0.1"]) == 2
    assert "leave out --training.learning_rate" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
