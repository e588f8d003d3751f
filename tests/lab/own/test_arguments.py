"""What `resonant.compare` is given: mistakes are named, numbers of numpy are numbers."""

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab import Comparison, Run

from .mine import noisy
from .test_compare import compared, rows

# What is mistaken is to be said by the library, not by the checks of types under test.
pytestmark = pytest.mark.usefixtures("unchecked")
DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"better": "lower"}, "better is .* by score"),
        ({"better": {"mse": "less"}}, "'lower' or 'higher'; it is 'less'"),
        ({"seeds": 2.5}, r"seeds are how many \(1 to 1000\).*they are 2.5"),
        ({"seeds": None}, "seeds are how many"),
        ({"seeds": 10**9}, "seeds are how many"),
        ({"seeds": True}, "seeds are how many"),
        ({"seeds": "123"}, "seeds are how many"),
        ({"seeds": [1, 1]}, "seeds are how many"),
        ({"seeds": [-1]}, "seeds are how many"),
        ({"control": 5}, "control is the name of an arm; it is 5"),
        ({"control": "zer"}, "did you mean 'zero'"),
        ({"says": None}, "says is a few words; it is None"),
        ({"choose_by": 5}, "choose_by is the name of a score"),
        ({"sweep": {"lr": 0.1}}, r"sweep\['lr'\] is a list of different values; it is 0.1"),
        ({"sweep": {"lr": "abc"}}, "is a list of different values"),
        ({"sweep": ["lr"]}, "sweep is lists of values by name"),
        ({"arms": {"a" * 101: 1}, "control": ""}, "an arm's name is that of a folder"),
        ({"arms": {"_a": 1}, "control": ""}, "an arm's name is that of a folder"),
        ({"arms": {"deep": DEEP, "b": 1}, "control": ""}, "the arm 'deep' is nested too deeply"),
        ({"arms": {"a": threading.Lock()}, "control": ""}, "the arm 'a' holds a lock"),
    ],
)
def test_mistaken_arguments(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        compared(tmp_path, **options)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("a/b", [1, 2], "the swept 'a/b' is no name of a field"),
        ("kind", [int, float], "holds a type; sweep numbers, strings, None or tuples of them"),
        ("lr", [0.1, 0.1], "is a list of different values"),
    ],
)
def test_mistaken_sweeps(name: str, values: list[Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Comparison(
            {"a": 1},
            noisy,
            sweep={name: values},
            choose_by="valid_mse",
            better={"valid_mse": "lower"},
        )


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        compared(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    found = compared(tmp_path, seeds=np.int64(2))
    assert found.seeds == [0, 1]
    assert compared(tmp_path, seeds=[np.int64(0), np.int64(1)]).scores == found.scores


def swept(arm: float, seed: int, run: Run) -> dict[str, float]:
    """A score that depends on what is swept."""
    size = run.config.size[0] if isinstance(run.config.size, tuple) else run.config.size
    loss = abs(arm - (size if math.isfinite(size) else 9.0)) + 0.01 * seed
    return {"valid_loss": loss, "loss": loss}


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        (np.linspace(0.0, 2.0, 3), {"zero": "0.0", "one": "1.0", "two": "2.0"}),
        ([(0, "a"), (1, "b")], {"zero": "(0, 'a')", "one": "(1, 'b')", "two": "(1, 'b')"}),
        ([1.0, math.inf], {"zero": "1.0", "one": "1.0", "two": "1.0"}),
        ([False, True], {"zero": "False", "one": "True", "two": "True"}),
    ],
    ids=["numpy", "tuples", "infinite", "booleans"],
)
def test_swept_values_of_every_kind(tmp_path: Path, values: Any, chosen: dict[str, str]) -> None:
    options: dict[str, Any] = {
        "train_and_score": swept,
        "config": None,
        "sweep": {"size": values},
        "choose_by": "valid_loss",
        "better": {"valid_loss": "lower"},
    }
    found = compared(tmp_path, **options)
    table = found.extra["Chosen on the validation split"]
    best = {row[0]: row for row in table.rows if row[3].startswith("chosen")}
    assert {arm: row[1] for arm, row in best.items()} == chosen
    assert ("edge" in str([row[3] for row in best.values()])) == isinstance(values, np.ndarray)
    assert str(compared(tmp_path, **options)) == str(found)  # read back, nothing made again


def test_why_a_sweep_fails(tmp_path: Path) -> None:
    def never(arm: float, seed: int, run: Run) -> dict[str, float]:
        raise ValueError("no luck")

    with pytest.raises(UserError, match=r"every value of the sweep \(.*ValueError: no luck"):
        compared(
            tmp_path,
            train_and_score=never,
            config=None,
            sweep={"size": [1, 2]},
            choose_by="valid_loss",
            better={"valid_loss": "lower"},
        )


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1e101, "which no mean or interval can hold"),
        (10**400, "an int of 1329 bits, which is no number of a float"),
        (torch.tensor(1j), "which is no number"),
        ("3", "which is no number"),
    ],
)
def test_scores_that_no_interval_can_hold(tmp_path: Path, value: Any, says: str) -> None:
    def huge(arm: float, seed: int, run: Run) -> dict[str, Any]:
        return {"mse": value if arm == 1.0 else 1e99 * arm + seed}

    found = compared(tmp_path, train_and_score=huge)
    assert says in str(found)
    assert len(found.failed) == 3
    assert "two" in found.report().read_text()


def test_names_of_scores_are_no_formulas_and_no_files(tmp_path: Path) -> None:
    def named(arm: float, seed: int, run: Run) -> dict[str, float]:
        run.log(0, **{"cost in $ and $": arm if seed else 1e308})
        return dict.fromkeys(("cost in $ and $", "f1/x", "f1 x", "long" * 90), arm + seed % 2)

    found = compared(tmp_path, train_and_score=named)
    assert found.report().read_text().count("<svg") == 5  # four, and one logged
    figures = tmp_path / "figures"
    assert main(["report", str(tmp_path), "--figures", str(figures)]) == 0
    assert len({path.name for path in figures.iterdir()}) == 5


def test_better_of_a_score_that_there_is_not(tmp_path: Path) -> None:
    found = compared(tmp_path, better={"msee": "lower"})
    assert "better names 'msee', which no run returns; did you mean 'mse'" in str(found)
    assert rows(found)["mse", "two"][3] == "higher"


def test_validation_scores_stand_last(tmp_path: Path) -> None:
    def several(arm: float, seed: int, run: Run) -> dict[str, float]:
        return dict.fromkeys(("dev_loss", "val_loss", "valid_loss", "loss"), arm + seed)

    found = compared(tmp_path, train_and_score=several, better={})
    assert found.metrics[0] == "loss"


def test_a_step_is_given_once(tmp_path: Path) -> None:
    def twice(arm: float, seed: int, run: Run) -> dict[str, float]:
        run.log(1, step=99)
        return {"mse": arm}

    with pytest.raises(UserError, match="takes the step first"):
        compared(tmp_path, train_and_score=twice)


def test_a_comparison_of_the_house_does_not_share_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared(tmp_path)
    assert main(["compare", "stdlib", "--out", str(tmp_path), "--seeds", "1"]) == 2
    assert "holds a comparison of functions of one's own" in capsys.readouterr().err
