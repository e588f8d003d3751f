"""What stands beside a function: the working directory, the configuration's code, mechanisms."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

import resonant
from resonant.errors import UserError
from resonant.functional import softmax_lift
from resonant.lab import Run
from resonant.lab.kit.code.registered import registered_code

from .test_compare import compared


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(arm: float, seed: int, run: Run) -> dict[str, float]:
        os.chdir(tmp_path.parent)
        run.log(0, mse=arm)
        return {"mse": arm + seed}

    monkeypatch.chdir(tmp_path)
    found = compared(Path("out"), train_and_score=elsewhere)
    assert len(found.scores["one"]) == 3
    assert Path.cwd() == tmp_path


@dataclasses.dataclass(frozen=True)
class Strict:
    """A configuration that refuses what is not above 0."""

    lr: float = 1.0
    twice: float = dataclasses.field(default=2.0, init=False)

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError("lr is above 0")


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        ({"lr": [1.0, -1.0]}, r"config does not take lr = -1.0 \(ValueError: lr is above 0"),
        ({"twice": [1.0]}, r"config does not take twice = 1.0"),
    ],
)
def test_a_sweep_that_the_configuration_refuses(
    tmp_path: Path, sweep: dict[str, list[float]], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        compared(
            tmp_path,
            config=Strict(),
            sweep=sweep,
            choose_by="valid_mse",
            better={"valid_mse": "lower"},
        )


def test_whole_numbers_of_a_checkpoint_have_64_bits(tmp_path: Path) -> None:
    def keeps(arm: float, seed: int, run: Run) -> dict[str, float]:
        run.checkpoint({"n": 10**30})
        return {"mse": arm}

    with pytest.raises(UserError, match=r"whole numbers of 64 bits; state\['n'\] is 10000"):
        compared(tmp_path, train_and_score=keeps)


def test_a_configuration_s_code_and_registered_mechanisms_count(tmp_path: Path) -> None:
    def reads(arm: float, seed: int, run: Run) -> dict[str, float]:
        return {"mse": run.config.twice}

    def kind(factor: int) -> Any:
        @dataclasses.dataclass
        class Settings:
            lr: float = 1.0

            @property
            def twice(self) -> float:
                return factor * self.lr

        return Settings()

    compared(tmp_path, train_and_score=reads, config=kind(2))
    compared(tmp_path, train_and_score=reads, config=kind(2))
    with pytest.raises(UserError, match="class of config changed"):
        compared(tmp_path, train_and_score=reads, config=kind(3))

    before = registered_code()

    @resonant.register("of_a_comparison")
    def lift(query: Any, key: Any, value: Any) -> Any:
        return softmax_lift(2 * query, key, value)

    assert registered_code().keys() - before.keys() == {"of_a_comparison"}
    with pytest.raises(UserError, match=r"registered\.of_a_comparison changed"):
        compared(tmp_path, train_and_score=reads, config=kind(2))
