"""The task of probes: accuracy counts what it says, and arms of the experiment are honest."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.files import WEIGHTS
from resonant.lab.abilities.config import ABILITIES, AbilityConfig
from resonant.lab.abilities.sequences import VOCABULARY
from resonant.lab.abilities.task import AbilitiesTask
from resonant.lab.alignment.config import SymbolsConfig
from resonant.lab.compare.estimate import estimate
from resonant.lab.compare.plan import make_plan
from resonant.lab.domains import EXPERIMENTS, build_task, read_run
from resonant.lab.kit.config import RunConfig, differences, replaced
from resonant.lab.kit.folder import DIAGNOSIS
from resonant.lab.run.loop import train

PROBES = EXPERIMENTS["probes"]


def config(arm: str, **overrides: Any) -> RunConfig:
    return PROBES.config(PROBES.base, PROBES.arm(arm), 0, overrides)


class Knowing(torch.nn.Module):
    """Knows the answers of the sets it will be asked; wrong on every third."""

    def __init__(self, task: AbilitiesTask, *, fail: int) -> None:
        super().__init__()
        self.known, self.fail = {}, fail
        for split, times in (("valid", 1), ("test", 1), ("test", 2)):
            for batch in task.batches(split, times):
                for row, answers in zip(batch.inputs, batch.targets, strict=True):
                    self.known[tuple(row.tolist())] = answers

    def forward(self, tokens: Tensor) -> Tensor:
        answers = torch.stack([self.known[tuple(row.tolist())] for row in tokens]).clamp(min=0)
        answers[:: self.fail] = 0
        return F.one_hot(answers, VOCABULARY).float() * 50


@pytest.mark.parametrize("ability", ABILITIES)
def test_accuracy_is_the_share_of_right_answers(ability: str) -> None:
    task = build_task(config(f"softmax-{ability}"), None)
    assert isinstance(task, AbilitiesTask)
    chance = task.metrics()
    task.model = Knowing(task, fail=1000)  # type: ignore[assignment]
    perfect = task.metrics()
    assert chance["accuracy"] < 0.2
    # Of each batch of 64 rows the first is wrong.
    assert 0.97 < perfect["accuracy"] < 1.0
    assert 0.97 < perfect["accuracy@long"] < 1.0
    task.model = Knowing(task, fail=2)  # type: ignore[assignment]
    assert abs(task.metrics()["accuracy"] - 0.5) < 0.05


def test_a_run_of_a_probe_leaves_its_numbers(tmp_path: Path) -> None:
    small = {"training.batch_size": 4, "training.evaluation_windows": 4}
    task = build_task(config("krause-recall", **small), None)
    assert task.tokens_per_step == 4 * 64
    assert task.loss(0).requires_grad
    assert task.loss(3).equal(task.loss(3))
    assert not task.loss(3).equal(task.loss(4))
    outcome = task.finish()
    found = outcome.arrays[DIAGNOSIS]
    assert found["weights"].shape == (2, 4, 64, 64)
    assert len(found["tokens"]) == 64
    assert "learned_numbers" in outcome.facts
    assert {"valid_loss", "test_loss", "accuracy", "accuracy@long"} == outcome.metrics.keys()
    task.save(tmp_path)
    assert (tmp_path / WEIGHTS).is_file()


def test_arms_of_an_ability_share_data_and_size() -> None:
    sizes: dict[str, dict[str, int]] = {}
    for arm in PROBES.arms:
        mechanism, _, ability = arm.name.rpartition("-")
        chosen = config(arm.name)
        alignment = ability == "alignment"
        assert isinstance(chosen.data, SymbolsConfig if alignment else AbilityConfig)
        assert alignment or chosen.data.name == ability
        assert read_run(dataclasses.asdict(chosen)) == chosen
        task = build_task(chosen, None)
        sizes.setdefault(ability, {})[mechanism] = sum(p.numel() for p in task.model.parameters())
        if mechanism != "softmax":
            assert arm.control is not None
            assert arm.control.endswith(ability)
            changed = differences(
                dataclasses.asdict(config(arm.control)), dataclasses.asdict(chosen)
            )
            names = {name for name, *_ in changed} - {"arm"}
            assert names == set(arm.changes) or arm.model is not None
            assert all(name.startswith("model.") for name in names)
    assert set(sizes) == {*ABILITIES, "alignment"} == set(PROBES.scores)
    for by_mechanism in sizes.values():
        for size in by_mechanism.values():
            assert abs(size / by_mechanism["softmax"] - 1) < 0.01


class Killed(Exception):
    pass


def test_learned_scalars_are_kept_once_a_step_through_kills(tmp_path: Path) -> None:
    small = {"training.steps": 6, "training.evaluate_every": 3, "training.batch_size": 2}
    chosen = config("softmax-gate-recall", **small, **{"training.evaluation_windows": 2})

    def stop_at(step: int) -> Any:
        def report(now: int, _: float) -> None:
            if now == step:
                raise Killed

        return report

    train(chosen, tmp_path / "whole", None, lambda *_: None)
    for step in (2, 2, 5):  # twice before there is a checkpoint, once after
        with pytest.raises(Killed):
            train(chosen, tmp_path / "killed", None, stop_at(step))
    train(chosen, tmp_path / "killed", None, lambda *_: None)
    whole, killed = ((tmp_path / n / "learned.csv").read_text() for n in ("whole", "killed"))
    assert killed == whole
    assert [line.partition(",")[0] for line in whole.splitlines()] == ["step", "0", "3", "6"]


def test_an_estimate_counts_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["softmax-recall", "kuramoto-recall"]
    first, second = estimate(plan(tmp_path, arms, training__steps=5))
    assert (first.arm, first.runs, first.tokens) == ("softmax-recall", 1, 5 * 32 * 64)
    assert second.flops > first.flops
    longer, _ = estimate(plan(tmp_path, arms, training__steps=10))
    assert longer.flops == 2 * first.flops
    # Six for each parameter and token is a lower bound: attention comes on top.
    assert 6 * 100_000 * first.tokens < first.flops < 9 * 100_000 * first.tokens
    assert first.hours(1.0) == first.flops / 1e12 / 3600
    out = tmp_path / "out"
    options = ["--estimate", "0.001", "--seeds", "2", "--out", str(out)]
    assert main(["compare", "probes", "--arms", "softmax-recall", *options]) == 0
    said = capsys.readouterr().out
    assert "at 0.001 TFLOP/s" in said
    assert "min" in said
    assert not out.exists()
    assert main(["compare", "probes", "--estimate", "0"]) == 2
    assert "--estimate takes TFLOP/s above 0" in capsys.readouterr().err


def plan(tmp_path: Path, arms: list[str], **overrides: Any) -> Any:
    given = {name.replace("__", "."): value for name, value in overrides.items()}
    return make_plan(
        PROBES,
        replaced(PROBES.base, given),
        arms=arms,
        seeds=[0],
        out=tmp_path,
        data_dir=None,
        overrides=given,
    )


def test_options_reach_the_arms_that_have_them(tmp_path: Path) -> None:
    made = plan(tmp_path, ["softmax-recall", "softmax-copying", "clock-alignment"], data__length=32)
    lengths = [getattr(run.data, "length", None) for run in made.runs]
    assert lengths == [32, 32, None]
    assert len({run.corpus for run in made.runs}) == 3
    assert "recall" in made.data
    assert "symbols" in made.data
    with pytest.raises(UserError, match=r"context is read by none of these arms; .*--data\.length"):
        plan(tmp_path, ["softmax-recall"], training__context=9)
    with pytest.raises(UserError, match=r"--data\.name is what these arms are about"):
        plan(tmp_path, ["softmax-induction", "krause-induction"], data__name="copying")
    with pytest.raises(
        UserError,
        match=r"tokens is read by none of these arms; nothing is written; leave",
    ):
        plan(tmp_path, ["softmax-recall"], training__sample_tokens=5)
    with pytest.raises(UserError, match=r"pass --model\.vocabulary 96"):
        build_task(config("softmax-recall", **{"model.vocabulary": 50}), None)
