"""`resonant.compare` of a function: what it makes, what it keeps, what it says when things fail."""

import json
import math
import statistics
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import resonant
from resonant.errors import UserError
from resonant.lab import Comparison, Run
from resonant.lab.kit.code.identity import digest
from resonant.lab.kit.statistics import paired_difference
from resonant.lab.own.results import Compared

from .mine import Config, noisy, odd

BETTER = {"mse": "lower", "accuracy": "higher"}


def compared(out: Path, **options: Any) -> Compared:
    """Three arms under three seeds, in this process."""
    given: dict[str, Any] = {
        "arms": {"zero": 0.0, "one": 1.0, "two": 2.0},
        "train_and_score": noisy,
        "control": "zero",
        "better": BETTER,
        "config": Config(),
        "workers": 0,
        "show": False,
        "out": out,
    }
    given |= options
    return resonant.compare(given.pop("arms"), given.pop("train_and_score"), **given)


def odd_ones(out: Path, *arms: str, **options: Any) -> Compared:
    return compared(out, arms={a: a for a in arms}, train_and_score=odd, control="", **options)


def rows(found: Compared) -> dict[tuple[str, str], list[str]]:
    """The table's cells by metric and arm."""
    return {(row[0], row[1]): row[2:] for row in found.table.rows}


def test_the_table_says_what_the_statistics_of_the_scores_say(tmp_path: Path) -> None:
    found = compared(tmp_path)
    ones = [noisy(1.0, s, Fake(Config()))["mse"] for s in range(3)]  # type: ignore[arg-type]
    zeros = [noisy(0.0, s, Fake(Config()))["mse"] for s in range(3)]  # type: ignore[arg-type]
    assert found.values("one", "mse") == ones
    assert found.difference("one", "mse") == paired_difference(ones, zeros)
    cells = rows(found)["mse", "one"]
    assert float(cells[0]) == pytest.approx(statistics.fmean(ones), abs=1e-3)
    assert cells[3] == "worse"
    assert rows(found)["accuracy", "two"][3] == "worse"
    assert rows(found)["valid_mse", "two"][3] == "higher"  # nobody said which way is better
    assert found.metrics == ["mse", "accuracy", "valid_mse"]
    assert found.difference("two", "mse", control="one").mean == pytest.approx(1.0, abs=0.3)
    for part in (
        found.table.columns,
        "Means over seeds 0, 1, 2",
        "9 runs were made in the process",
    ):
        assert str(part if isinstance(part, str) else part[0]) in str(found)


class Fake:
    """As much of a run as ``noisy`` asks for."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def log(self, step: int, **numbers: float) -> None:
        """Drop it."""


def test_the_page_shows_differences_curves_and_arms(tmp_path: Path) -> None:
    page = compared(tmp_path / "mine").report()
    text = page.read_text()
    assert page == tmp_path / "mine" / "report.html"
    assert "<h1>mine</h1>" in text
    assert "3 arms, 3 seeds each" in text
    assert text.count("<svg") == 4  # three differences, one logged number
    assert "What runs logged" in text
    for outside in ("src=", "<script", "url(http", "@import"):
        assert outside not in text


def test_a_run_is_made_once_and_a_new_arm_or_seed_alone(tmp_path: Path) -> None:
    compared(tmp_path)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/scores.json")}
    assert len(first) == 9
    compared(tmp_path, seeds=4, arms={"zero": 0.0, "one": 1.0, "two": 2.0, "three": 3.0})
    again = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/scores.json")}
    assert len(again) == 16
    assert {path: again[path] for path in first} == first


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"config": Config(noise=0.2)}, "config.noise was 0.1, is 0.2"),
        ({"arms": {"zero": 0.5, "one": 1.0, "two": 2.0}}, "the arm itself changed"),
        ({"train_and_score": odd}, "train_and_score.code changed"),
    ],
)
def test_what_changed_is_another_configuration(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    before = compared(tmp_path).values("one", "mse")
    with pytest.raises(UserError, match=says):
        compared(tmp_path, **options)
    assert compared(tmp_path).values("one", "mse") == before
    if "train_and_score" not in options:
        compared(tmp_path, overwrite=True, **options)


def test_arms_that_fail_are_named_and_nothing_else_is_lost(tmp_path: Path) -> None:
    found = odd_ones(tmp_path, "fine", "other", "raises", "nan", "exits")
    said = str(found)
    assert found.difference("other", "mse").mean == pytest.approx(1.0)
    assert "FAILED: raises-seed0 raises ValueError: no such file; the traceback is in" in said
    assert "FAILED: nan-seed1 returns mse = nan, which no mean or interval can hold" in said
    assert "FAILED: exits-seed2 raises SystemExit" in said
    assert rows(found)["mse", "nan"][3] == "seeds 0, 1, 2 failed"
    assert "line" in (tmp_path / "raises-seed0" / "error.txt").read_text()
    assert len(found.failed) == 9
    assert "Failed: nan-seed0" in found.report().read_text()
    with pytest.raises(UserError, match="nan has no mse to compare: seeds 0, 1, 2 failed"):
        found.difference("nan", "mse")


def test_a_control_that_fails_leaves_the_means(tmp_path: Path) -> None:
    found = odd_ones(tmp_path, "raises", "fine")
    assert rows(found)["mse", "fine"] == ["1.100", "raises", "", "the control has none", ""]


def test_if_everything_fails_that_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run in .* has scores; raises-seed0 raises ValueError"):
        odd_ones(tmp_path, "raises", "nan")


def test_a_score_missing_in_one_seed_is_compared_by_the_others(tmp_path: Path) -> None:
    found = odd_ones(tmp_path, "fine", "lacks")
    assert rows(found)["extra", "lacks"][3] == "too few seeds"  # two pairs
    assert len(found.pairs("lacks", "extra")) == 2
    assert rows(found)["mse", "lacks"][3] == "worse"
    said = "lacks returns extra in seeds 0, 2, but not in seed 1: its row stands on those"
    assert said in str(found)


def test_a_failed_seed_of_the_control_leaves_the_other_pairs(tmp_path: Path) -> None:
    found = odd_ones(tmp_path, "fails-once", "fine", seeds=4)
    assert len(found.pairs("fine", "mse")) == 3
    assert rows(found)["mse", "fine"][3] in ("lower", "higher", "worse", "better", "no difference")
    said = "fails-once has no scores of seed 1: its rows stand on seeds 0, 2, 3 alone"
    assert said in str(found)


def test_two_arms_that_are_the_same(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the arms 'one' and 'uno' are the same; leave one out"):
        compared(tmp_path, arms={"one": 1.0, "uno": 1.0}, control="one")
    found = odd_ones(tmp_path, "fine", "anything", "something")
    assert "something and anything have the very same scores in every seed" in str(found)


def test_two_seeds_are_too_few(tmp_path: Path) -> None:
    found = compared(tmp_path, seeds=2)
    assert rows(found)["mse", "one"][3] == "too few seeds"
    assert "±" not in rows(found)["mse", "one"][2]


def test_digits_follow_the_scores(tmp_path: Path) -> None:
    def tiny(arm: float, seed: int, run: Run) -> dict[str, float]:
        small = arm * 1e-6 + seed * 1e-8 + arm * seed * 1e-9
        return {"small": small, "large": 1e6 * arm + seed, "least": 1e-9 * small}

    found = compared(tmp_path, train_and_score=tiny)
    assert float(rows(found)["small", "one"][0]) == pytest.approx(1.011e-6, rel=1e-3)
    assert rows(found)["small", "one"][3] == "higher"
    assert rows(found)["large", "one"][0] == "1000001"
    assert rows(found)["least", "one"][0] == "1.011e-15"
    assert rows(found)["least", "one"][3] == "higher"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"arms": {}}, "arms are given by name, at least one"),
        ({"arms": {"a/b": 1}}, "an arm's name is that of a folder"),
        ({"arms": {"..": 1}}, "an arm's name is that of a folder"),
        ({"control": "zer"}, "the control 'zer' is no arm; did you mean 'zero'"),
        ({"better": {"mse": "less"}}, "is 'lower' or 'higher'; it is 'less'"),
        ({"seeds": 0}, "seeds are how many"),
        ({"seeds": [1, 1]}, "seeds are how many"),
        ({"seeds": [-1]}, "seeds are how many"),
        ({"config": Config}, "config is an instance of a dataclass"),
        ({"workers": -1}, "workers are 0 to 256"),
        ({"sweep": {"noise": [0.1]}}, "sweep and choose_by go together"),
        ({"sweep": {"noise": [0.1]}, "choose_by": "mse"}, "never of the test split"),
        ({"sweep": {"noise": [0.1]}, "choose_by": "test_mse"}, "never of the test split"),
        ({"sweep": {"noise": [0.1]}, "choose_by": "valid_mse"}, "must say which way it is better"),
        ({"arms": {"a": threading.Lock()}, "control": "a"}, "the arm 'a' holds a lock"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        compared(tmp_path, **options)
    assert not [*tmp_path.glob("*/scores.json")]


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (0.5, "returns 0.5; train_and_score returns scores by name"),
        ({}, "returns {}; train_and_score returns scores by name"),
        ({"mse": "low"}, "returns mse = 'low', which is no number"),
        ({"mse": torch.zeros(3)}, "which is no number"),
        ({1: 0.5}, "returns a score named 1; names are strings"),
        ({"mse": math.inf}, "returns mse = inf"),
    ],
)
def test_scores_that_are_none(tmp_path: Path, returned: Any, says: str) -> None:
    def wrong(arm: int, seed: int, run: Run) -> Any:
        return returned

    with pytest.raises(UserError, match=says):
        compared(tmp_path, arms={"a": 1}, control="a", train_and_score=wrong, better={})


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    def numbers(arm: int, seed: int, run: Run) -> dict[str, Any]:
        run.log(np.int64(3), mse=torch.tensor(0.5), bad=math.nan)
        return {"a": np.float32(0.5), "b": torch.tensor([2.0]), "c": arm}

    found = compared(tmp_path, arms={"x": 1}, control="x", train_and_score=numbers, better={})
    assert [found.values("x", name)[0] for name in "abc"] == [0.5, 2.0, 1.0]
    row = json.loads((tmp_path / "x-seed0" / "log.jsonl").read_text())
    assert row == {"step": 3, "mse": 0.5, "bad": None}


def test_a_sweep_gives_each_arm_its_best_by_the_validation_split(tmp_path: Path) -> None:
    def bowl(arm: float, seed: int, run: Run) -> dict[str, float]:
        if run.config.lr > 5:
            raise OverflowError("diverged")
        away = abs(math.log10(run.config.lr) - arm)
        return {"valid_mse": away + 0.01 * seed, "test_mse": 1 - away + 0.01 * seed}

    found = compared(
        tmp_path,
        arms={"slow": -2.0, "fast": -1.0},
        control="slow",
        train_and_score=bowl,
        config=None,
        sweep={"lr": [0.01, 0.1, 1.0, 10.0]},
        choose_by="valid_mse",
        better={"valid_mse": "lower", "test_mse": "higher"},
    )
    assert found.values("slow", "valid_mse") == pytest.approx([0.0, 0.01, 0.02])
    assert found.values("fast", "valid_mse") == pytest.approx([0.0, 0.01, 0.02])
    (table,) = found.extra.values()
    notes = {(row[0], row[1]): row[-1] for row in table.rows}
    assert notes["slow", "0.01"] == "chosen; lr at the edge"
    assert notes["fast", "0.1"] == "chosen"
    assert {row[2] for row in table.rows if row[1] == "10.0"} == {"failed"}
    made = {path.parent.name for path in tmp_path.glob("*/scores.json")}
    assert "fast-lr=0.1-seed2" in made
    assert "fast-lr=1.0-seed1" not in made
    assert "at the edge" in found.report().read_text()


def test_a_sweep_whose_values_all_fail_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the arm 'nan' fails with every value of the sweep"):
        compared(
            tmp_path,
            arms={"fine": "fine", "nan": "nan"},
            control="fine",
            train_and_score=lambda arm, seed, run: {"valid_mse": math.nan if arm == "nan" else 1.0},
            sweep={"noise": [1.0, 2.0]},
            choose_by="valid_mse",
            better={"valid_mse": "lower"},
        )


def test_each_run_is_given_its_arm_as_it_was(tmp_path: Path) -> None:
    """An arm may be a model, which training changes in place."""

    def trained(arm: torch.nn.Linear, seed: int, run: Run) -> dict[str, float]:
        before = arm.weight.sum().item()
        with torch.no_grad():
            arm.weight += 1
        return {"before": before}

    arm = torch.nn.Linear(2, 2)
    start = arm.weight.sum().item()
    found = compared(tmp_path, arms={"a": arm}, control="a", train_and_score=trained, better={})
    assert found.values("a", "before") == [start] * 3
    assert arm.weight.sum().item() == start


def test_global_generators_start_from_the_seed_and_come_back(tmp_path: Path) -> None:
    def draws(arm: int, seed: int, run: Run) -> dict[str, float]:
        return {"torch": torch.rand(()).item(), "numpy": np.random.rand()}

    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = compared(tmp_path, arms={"a": 1}, control="a", train_and_score=draws, better={})
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert found.values("a", "torch")[1] == torch.rand(()).item()


def test_a_lambda_and_a_closure_are_compared_and_told_apart(tmp_path: Path) -> None:
    def made(shift: float) -> Any:
        return lambda seed: shift + 0.1 * seed

    found = compared(
        tmp_path,
        arms={"low": made(1.0), "high": made(2.0)},
        control="low",
        train_and_score=lambda arm, seed, run: {"mse": arm(seed)},
    )
    assert found.difference("high", "mse").mean == pytest.approx(1.0)
    with pytest.raises(UserError, match="the arm itself changed"):
        compared(
            tmp_path,
            arms={"low": made(1.5), "high": made(2.0)},
            control="low",
            train_and_score=lambda arm, seed, run: {"mse": arm(seed)},
        )


def test_what_is_no_function_is_refused(tmp_path: Path, unchecked: None) -> None:
    with pytest.raises(UserError, match="train_and_score is a function"):
        compared(tmp_path, train_and_score=3)


def first(x: float) -> float:
    return x


def second(x: float) -> float:
    return x + 1


def by_identity(arm: Any, seed: int, run: Run) -> dict[str, float]:
    return {"mse": (10.0 if arm is second else 1.0) + 0.1 * seed}


class Counting:
    """A callable that changes itself."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, arm: float, seed: int, run: Run) -> dict[str, float]:
        self.calls += 1
        return {"mse": arm + self.calls}


def test_in_this_process_as_on_a_worker(tmp_path: Path) -> None:
    """An arm is what the function knows it as, and no run sees what another one changed."""
    arms = {"first": first, "second": second}
    found = compared(tmp_path / "a", arms=arms, control="first", train_and_score=by_identity)
    assert found.difference("second", "mse").mean == pytest.approx(9.0)
    found = compared(tmp_path / "b", train_and_score=Counting())
    assert found.values("two", "mse") == [3.0, 3.0, 3.0]


def test_lambdas_of_one_module_and_frozen_tensors_are_told_apart(tmp_path: Path) -> None:
    arms = {"one": lambda s: 1.0 + s, "two": lambda s: 2.0 + s}
    compared(tmp_path, arms=arms, control="one", train_and_score=lambda a, s, run: {"mse": a(s)})
    free = torch.zeros(2, requires_grad=True)
    assert digest(free) != digest(free.detach())


def test_a_sweep_is_overwritten_whole(tmp_path: Path) -> None:
    sweep = {"sweep": {"noise": [0.1, 0.2]}, "choose_by": "valid_mse"}
    better = {"better": BETTER | {"valid_mse": "lower"}}
    compared(tmp_path, **sweep, **better)
    changed = Config(steps=2)
    compared(tmp_path, config=changed, overwrite=True, **sweep, **better)


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(UserError, match="holds another kind of comparison; choose another out"):
        compared(tmp_path)


def test_without_the_laboratory_s_packages_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['filelock'] = None; import resonant\n"
        "resonant.compare({'a': 1}, print)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "needs the package filelock, which is not installed; pip install" in done.stderr


def test_a_comparison_knows_its_parts() -> None:
    record = Comparison({"a": 1, "b": 2}, noisy, seeds=[3, 5])
    assert record.control_name == "a"
    assert record.seed_list == [3, 5]
    assert record.only(["b"]).control_name == "b"
    arms: Mapping[str, Any] = record.only(["a"]).arms
    assert [*arms] == ["a"]
