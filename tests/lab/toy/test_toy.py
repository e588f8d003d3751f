"""Rule 7: a kind of data in one folder is compared, reported and listed with no other edit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from resonant.lab.domains import EXPERIMENTS
from tests.lab.running import quality, resonant
from tests.test_architecture import NAMES

PLUGIN = "--plugins=tests.lab.toy.domain"
RUNS = ("tanh-seed0", "tanh-seed1", "relu-seed0", "relu-seed1")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two seeds, as a user would run it."""
    out = tmp_path_factory.mktemp("toy") / "out"
    done = resonant("compare", "curves", PLUGIN, f"--out={out}", "--seeds=2", "--workers=2")
    assert done.returncode == 0, done.stderr
    assert "At 0, mean over seeds." in done.stdout
    assert "points on a wave of frequency 3" in done.stdout
    return out


def test_it_is_compared(compared: Path) -> None:
    done = {name: json.loads((compared / name / "done.json").read_text()) for name in RUNS}
    losses = [done[name]["metrics"]["test_loss"] for name in RUNS]
    assert len(set(losses)) == 4
    assert max(losses) < 0.5  # a wave of height 1 has a mean square of about 0.5
    assert json.loads((compared / "probe.json").read_text())["costs"].keys() == {"tanh", "relu"}


def test_every_file_it_leaves_has_a_name_of_its_own(compared: Path) -> None:
    """Rule 5 for whole folders: nothing is written under a name that no constant holds."""
    known = {*NAMES.values(), ".lock", "curve.npz"}
    assert {path.name for path in compared.rglob("*") if path.is_file()} <= known


def test_killed_and_started_again_it_ends_the_same(compared: Path, tmp_path: Path) -> None:
    options = ("curves", PLUGIN, f"--out={tmp_path}", "--seeds=2", "--workers=2")
    assert resonant("compare", *options, fault="checkpoint-written:2").returncode == 1
    assert resonant("compare", *options).returncode == 0
    assert quality(tmp_path) == quality(compared)


def test_it_is_reported_without_being_named(compared: Path) -> None:
    """The runs say which plugin brought their data."""
    said = resonant("report", str(compared), "--markdown")
    assert said.returncode == 0, said.stderr
    assert "**Error in the middle**" in said.stdout
    page = (compared / "report.html").read_text()
    assert "<h2>Fitted curves</h2>" in page
    assert "The wave, and the first seed of each arm." in page


def test_it_is_listed() -> None:
    assert "curves" not in EXPERIMENTS
    everything = resonant("list", PLUGIN).stdout
    assert "networks of one hidden layer fitted to a wave" in everything
    assert "wave" in everything
    assert "relu" in resonant("list", "curves", PLUGIN).stdout
    assert "data         wave" in resonant("list", "toy", PLUGIN).stdout
    assert "of what is added to the points" in resonant("list", "wave", PLUGIN).stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data.frequency=20"], "a wave of frequency 20 needs as many units"),
        (["--training.context=3"], "no arm here reads; points have no length"),
        (["--model.activation=sine"], "model.activation is one of tanh, relu"),
        (["--model.attention.window=3"], "no option is called --model.attention.window"),
    ],
)
def test_its_options_are_checked(tmp_path: Path, options: list[str], says: str) -> None:
    done = resonant("compare", "curves", PLUGIN, f"--out={tmp_path}", *options)
    assert done.returncode == 2
    assert says in done.stderr


def test_names_that_are_taken_are_refused() -> None:
    code = """
import dataclasses, pytest
from resonant.lab.domains import DOMAINS, EXPERIMENTS, register_domain
from tests.lab.toy.domain import DOMAIN
known = len(DOMAINS), len(EXPERIMENTS)
for changes, says in (
    ({}, "a domain named 'toy'"),
    ({"name": "other"}, "an experiment named 'curves'"),
    ({"name": "other", "experiments": ()}, "data named 'wave'"),
):
    with pytest.raises(ValueError, match=says):
        register_domain(dataclasses.replace(DOMAIN, **changes))
assert known == (len(DOMAINS), len(EXPERIMENTS))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
