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
RUNS = tuple(f"{arm}-seed{seed}" for arm in ("tanh", "relu", "line") for seed in (0, 1))


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
    assert len(set(losses)) == len(RUNS)
    assert max(losses[:4]) < 0.5 < max(losses[4:])  # a wave's mean square; a line is no wave
    assert json.loads((compared / "probe.json").read_text())["costs"].keys() == {
        "tanh",
        "relu",
        "line",
    }


def test_every_file_it_leaves_has_a_name_of_its_own(compared: Path) -> None:
    """Rule 5 for whole folders: nothing is written under a name that no constant holds."""
    known = {*NAMES.values(), ".lock", "curve.npz"}
    assert {path.name for path in compared.rglob("*") if path.is_file()} <= known


@pytest.mark.slow
def test_killed_and_started_again_it_ends_the_same(compared: Path, tmp_path: Path) -> None:
    options = ("curves", PLUGIN, f"--out={tmp_path}", "--seeds=1", "--arms=line", "--workers=1")
    assert resonant("compare", *options, fault="checkpoint-written:2").returncode == 1
    assert resonant("compare", *options).returncode == 0
    whole = quality(compared)
    assert quality(tmp_path) == {"line-seed0": whole["line-seed0"]}


def test_it_is_reported_by_the_plugin_that_was_asked_for(compared: Path) -> None:
    """The runs say which plugin brought their data, and no file has a plugin imported."""
    refused = resonant("report", str(compared), "--markdown")
    assert refused.returncode == 2
    assert f"--plugins {PLUGIN.removeprefix('--plugins=')}" in refused.stderr
    said = resonant("report", str(compared), "--markdown", PLUGIN)
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
        (["--training.context=3"], "is read by none of these arms; points have no length"),
        (["--model.activation=sine"], "model.activation is one of tanh, relu"),
        (["--model.attention.window=3"], "no option is called --model.attention.window"),
        (["--data=3"], "--data is a group: name a field of it, as in --data."),
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
from resonant.lab.kit.config import Data
from tests.lab.toy.domain import DOMAIN, EXPERIMENT
known = len(DOMAINS), len(EXPERIMENTS)
BARE = {"name": "other", "experiments": (), "data": (), "models": ()}
tanh, relu, line = EXPERIMENT.arms
twice = dataclasses.replace(EXPERIMENT, name="twice", arms=(tanh, tanh))
late = dataclasses.replace(EXPERIMENT, name="late", arms=(relu, tanh))
class Nameless(Data):
    pass
class Mine:
    architecture = "transformer"
for changes, says in (
    ({}, "a domain named 'toy'"),
    ({"name": "other"}, "an experiment named 'curves'"),
    ({"name": "other", "experiments": ()}, "data named 'wave'"),
    ({"name": "other", "experiments": (), "data": (), "models": (Mine,)}, "an architecture named"),
    (BARE | {"commands": {"sample": ("x", "y")}}, "a command named 'sample'"),
    (BARE | {"commands": {"winding": ("x", "y")}, "data": (Nameless,)}, "Nameless has no NAMES"),
    (BARE | {"unread": {"training.contex": ""}}, "did you mean 'training.context'"),
    (BARE | {"experiments": (twice, twice)}, "an experiment named 'twice'"),
    (BARE | {"experiments": (twice,)}, "twice has several arms named 'tanh'"),
    (BARE | {"experiments": (late,)}, "the control 'tanh' of 'relu' is no arm of late before it"),
):
    with pytest.raises(ValueError, match=says):
        register_domain(dataclasses.replace(DOMAIN, **changes))
assert known == (len(DOMAINS), len(EXPERIMENTS))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_arm_of_another_model_says_how_it_differs(compared: Path) -> None:
    described = json.loads((compared / "comparison.json").read_text())
    changes = {arm["name"]: arm["changes"] for arm in described["arms"]}
    assert changes["line"] == "model.architecture = line"
    assert changes["relu"] == "model.activation = relu"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("raise OSError('no licence')", "raises OSError: no licence when it is imported; mend it"),
        ("def broken(:", "raises SyntaxError"),
        ("import nowhere_at_all", "cannot import the plugin 'mine'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, says: str
) -> None:
    (tmp_path / "mine.py").write_text(content)
    monkeypatch.chdir(tmp_path)
    for command in ("list", "compare"):
        done = resonant(command, "--plugins=mine")
        assert done.returncode == 2
        assert says in done.stderr


def test_its_command_is_found_and_takes_no_name_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("winding", "compare"):
        (tmp_path / f"brings_{name}.py").write_text(
            "from resonant.lab.domains import register_domain\n"
            "from resonant.lab.kit.domain import Domain\n"
            "def main(arguments):\n"
            "    print('wound', arguments)\n"
            "    return 0\n"
            "parts = dict.fromkeys(('task', 'describe', 'sections'), 'x:y')\n"
            "command = {'NAME': ('brings_NAME', 'winds')}\n"
            "register_domain(Domain('mine', (), (), (), commands=command, **parts))\n".replace(
                "NAME", name
            )
        )
    done = resonant("winding", "3", "--plugins=brings_winding")
    assert done.returncode == 0, done.stderr
    assert "wound ['3', '--plugins=brings_winding']" in done.stdout
    refused = resonant("windings", "--plugins", "brings_winding")
    assert "no command is called 'windings'; did you mean 'winding'" in refused.stderr
    taken = resonant("other", "--plugins=brings_compare")
    assert "a plugin brings a command 'compare', which is taken" in taken.stderr
