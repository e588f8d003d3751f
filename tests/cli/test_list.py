"""`resonant list`: what configurations and domains say, in brief, and all of it by name."""

import subprocess
import sys

import pytest

import resonant
from resonant.cli.list import PRESETS_OF
from resonant.cli.main import main
from resonant.lab.domains import DOMAINS, EXPERIMENTS, data_classes
from resonant.lab.kit.grid import Grid, as_rich, plain_console, table_console


def test_everything_in_brief(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) < 60
    names = [*EXPERIMENTS, *data_classes(), *PRESETS_OF, *(domain.name for domain in DOMAINS)]
    names += [name for presets in PRESETS_OF.values() for name in presets]
    words = said.replace(",", " ").split()
    assert not [name for name in names if name not in words]


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_the_arms_of_an_experiment(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", name]) == 0
    said = capsys.readouterr().out
    for arm in EXPERIMENTS[name].arms:
        assert f"    {arm.name:23} {arm.says}" in said
        assert arm.control is None or f"(against {arm.control})" in said


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("vision", "models       vision, swin, pixels"),
        ("vision", "resonant draw: pictures from a trained model of pixels"),
        ("symbols", "--data.jitter       standard deviation of the logarithm of durations"),
        ("stdlib", "data stdlib (--data.name stdlib)"),  # an experiment, and data
        ("stdlib", "experiment stdlib (resonant compare stdlib)"),
        ("language_model", "0.11M parameters; at 2048 tokens"),
        ("phase_language_model", "presets of resonant.phase_language_model(NAME)"),
        ("imagenet-s", "preset imagenet-s (resonant.vision_transformer('imagenet-s'))"),
        ("krause-window", "  stdlib                  Krause over the same window (against soft"),
    ],
)
def test_what_a_name_stands_for(name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", name]) == 0
    assert says in capsys.readouterr().out


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "stdlibs"]) == 2
    said = capsys.readouterr().err
    assert "no domain, experiment, arm, data, preset or kind of model is called 'stdlibs'" in said
    assert "did you mean 'stdlib'" in said


def test_a_reader_that_stops_reading_is_no_fault() -> None:
    command = f"{sys.executable} -m resonant.cli.main list | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("experiments by domain")
    assert done.stderr == ""


def test_the_version_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"resonant {resonant.__version__}\n"


def test_names_with_brackets_print_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    plain_console().print("a[/b] [bold]c", soft_wrap=True)
    table_console().print(as_rich(Grid(("arm [x]",), [["[/y]"]], ""), "head [z]"))
    said = capsys.readouterr().out
    assert "a[/b] [bold]c" in said
    assert all(part in said for part in ("arm [x]", "[/y]", "head [z]"))
