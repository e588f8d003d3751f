"""Problems of one's own under our loop: compared, resumed to the bit, checked, diagnosed."""

import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import resonant
from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab import Comparison, Problem, TrainingConfig, run_comparison
from resonant.lab.own.results import Compared
from resonant.lab.problem.problem import first_tensor
from tests.lab.running import quality

from . import problems

RUNS = ("causal-seed0", "causal-seed1", "full-seed0", "full-seed1")
PLUGIN = "--plugins=tests.lab.problem.problems"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Two arms under two seeds, in this process."""
    record = dataclasses.replace(problems.experiment, seeds=2)
    out = tmp_path_factory.mktemp("problem") / "out"
    return run_comparison(record, out, workers=0, probe=False, show=False)


def test_losses_and_scores_are_compared(compared: Compared) -> None:
    assert compared.metrics == [
        "test_loss",
        "test_accuracy",
        "valid_loss",
        "valid_accuracy",
    ]
    done = json.loads((compared.out / "full-seed1" / "done.json").read_text())
    assert compared.values("full", "test_loss")[1] == done["metrics"]["test_loss"]
    assert done["attention_parameters"] == 4 * 8 * 8 + 4 * 8
    assert done["tokens"] == 6 * 4
    rows = (compared.out / "full-seed0" / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["3", "6"]


def test_the_page_shows_what_the_lab_shows(compared: Compared) -> None:
    text = compared.report().read_text()
    for part in ("Other scores", "accuracy", "Learning curves", "Where attention looks", "nats"):
        assert part in text


def test_a_trained_model_is_opened_here(compared: Compared) -> None:
    model = compared.model("full", 1)
    batch = problems.Copying(training=problems.TRAINING).batch("test", 0, 0)
    with torch.no_grad():
        first = torch.nn.functional.cross_entropy(
            model(batch["tokens"]).flatten(0, 1), batch["targets"].flatten()
        )
    assert abs(first.item() - compared.values("full", "test_loss")[1]) < 0.5
    assert not model.training


def test_check_and_diagnose_open_its_runs(
    compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(compared.out / "causal-seed0"), PLUGIN]) == 0
    assert "causality  holds" in capsys.readouterr().out
    assert main(["check", str(compared.out / "full-seed0"), PLUGIN]) == 1
    assert main(["diagnose", str(compared.out / "full-seed0"), PLUGIN]) == 0
    assert "diagnosis.html" in capsys.readouterr().out
    for option in ("--text=x", "--length=9"):
        assert main(["diagnose", str(compared.out / "full-seed0"), PLUGIN, option]) == 2
        assert "brings its own inputs" in capsys.readouterr().err


def test_changed_code_is_refused_by_name(
    compared: Compared, capsys: pytest.CaptureFixture[str]
) -> None:
    run = compared.out / "causal-seed0"
    config = (run / "config.yaml").read_text()
    code = next(line.split()[1] for line in config.splitlines() if " code:" in line)
    (run / "config.yaml").write_text(config.replace(code, "a" * 64))
    try:
        assert main(["check", str(run), PLUGIN]) == 2
        assert "Copying changed since causal-seed0 was trained" in capsys.readouterr().err
        assert main(["report", str(compared.out), "--markdown"]) == 0  # needs no code
    finally:
        (run / "config.yaml").write_text(config)


def test_another_field_is_another_configuration(compared: Compared) -> None:
    assert isinstance(compared.out, Path)
    wider = problems.Copying(width=4, training=problems.TRAINING)
    changed = dataclasses.replace(problems.experiment, train_and_score=wider, seeds=2)
    with pytest.raises(UserError, match="holds a run of another configuration"):
        run_comparison(changed, compared.out, workers=0, show=False)


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("no module", r"Wrong.model\(arm\) returns a int; return the torch module"),
        ("raises", r"bad-seed0 raises RuntimeError: no memory at .*problems.py, line \d+"),
        ("no batch", "bad-seed0 raises KeyError"),
        ("no mean", r"Wrong.loss returns \(4, 1\); return a tensor without axes"),
        ("a float", "Wrong.loss returns float; return a tensor"),
        ("nan", "the loss of step 0 became nan in bad-seed0"),
        ("loss", "returns a 'loss', which is measured anyway"),
        ("lazy", r"Wrong.model\(arm\) has lazy layers, .*; call the model once"),
        ("no inputs", r"Wrong.inputs\(batch\) returns a str; return the tensor"),
        ("no count", r"Wrong.count\(batch\) returns 0.5; return how many it holds"),
    ],
)
def test_what_goes_wrong_in_a_problem_is_said(tmp_path: Path, arm: str, says: str) -> None:
    training = TrainingConfig(steps=1)
    with pytest.raises(UserError, match=says):
        resonant.compare(
            {"bad": arm},
            problems.Wrong(training=training),
            seeds=1,
            out=tmp_path,
            workers=0,
            probe=False,
            show=False,
        )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"config": problems.TRAINING}, "configuration is its own fields; leave out config"),
        ({"sweep": {"lr": [0.1]}}, "a Problem sweeps its learning rate"),
        ({"sweep": {"learning_rate": [0.0]}}, "a Problem sweeps its learning rate"),
        ({"sweep": {"learning_rate": [0.1]}, "choose_by": "test_loss"}, "chosen by valid_loss"),
    ],
)
def test_what_a_problem_does_not_take(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Comparison({"a": 1}, problems.Copying(), **options)


def test_an_arm_that_fails_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = problems.Wrong(training=TrainingConfig(steps=1))
    arms = {"fine": "fine", "bad": "raises", "also": "also"}
    options: dict[str, Any] = {"seeds": 1, "workers": 0, "probe": False}
    found = resonant.compare(arms, problem, out=tmp_path, **options)
    said = capsys.readouterr().out
    assert "FAILED: bad-seed0 raises RuntimeError: no memory" in said
    assert "also" in said.rpartition("FAILED")[0]
    assert [*found.failed] == ["bad-seed0"]
    assert found.difference("also", "test_loss").mean == 0
    page = found.report().read_text()
    assert "also" in page
    with pytest.raises(UserError, match="bad has no finished run of seed 0; finished are: none"):
        found.model("bad")
    with pytest.raises(UserError, match="there is no 'fin' here; did you mean 'fine'"):
        found.model("fin")
    failed = resonant.compare(arms, problem, control="bad", out=tmp_path / "b", **options)
    assert "the control has none" in str(failed)
    with pytest.raises(UserError, match="the page compares with bad, of which runs failed"):
        failed.report()
    assert main(["report", str(tmp_path)]) == 0


def test_problems_that_measure_nothing_or_lack_their_fields() -> None:
    with pytest.raises(UserError, match="Bare has no training: its __init__ must call super"):
        Comparison({"a": 1}, problems.Bare())
    for name in ("valid_batches", "test_batches"):
        with pytest.raises(UserError, match=f"Copying.{name} is at least 1; it is 0"):
            Comparison({"a": 1}, dataclasses.replace(problems.Copying(), **{name: 0}))


class Given(problems.Copying):
    """Its arm is the model, or what a model is made of and changed."""

    def model(self, arm: Any) -> torch.nn.Module:
        """The arm; or one made of what it holds, which grows."""
        if isinstance(arm, torch.nn.Module):
            return arm
        arm["width"] *= 2
        return problems.Reader(arm["width"], causal=True)


def test_every_run_gets_its_arm_fresh(tmp_path: Path) -> None:
    problem = Given(training=problems.TRAINING)
    arms = {"model": problems.Reader(8, causal=True), "grows": {"width": 4}}
    found = resonant.compare(arms, problem, seeds=2, out=tmp_path, workers=0, show=False)
    sizes = [
        json.loads((tmp_path / f"grows-seed{seed}" / "done.json").read_text())["parameters"]
        for seed in (0, 1)
    ]
    assert sizes[0] == sizes[1]
    alone = resonant.compare(
        arms, problem, seeds=[1], out=tmp_path / "alone", workers=0, show=False, probe=False
    )
    assert alone.scores["model"][1] == found.scores["model"][1]


def test_scores_that_some_batches_lack_are_refused(tmp_path: Path) -> None:
    problem = problems.Wrong(training=TrainingConfig(steps=1))
    with pytest.raises(UserError, match=r"Wrong\.metrics gives accuracy in some batches of valid"):
        resonant.compare({"some": "some"}, problem, seeds=1, out=tmp_path, workers=0, show=False)


def test_a_model_without_attention_needs_no_inputs(tmp_path: Path) -> None:
    problem = problems.Wrong(training=TrainingConfig(steps=1))
    options: dict[str, Any] = {"seeds": 1, "workers": 0, "probe": False, "show": False}
    found = resonant.compare({"fine": "fine"}, problem, out=tmp_path, **options)
    assert "is not shown" not in str(found)


def test_a_lock_in_an_arm_is_named(tmp_path: Path) -> None:
    problem = problems.Copying(training=problems.TRAINING)
    with pytest.raises(UserError, match="the arm 'a' holds a lock"):
        resonant.compare({"a": threading.Lock()}, problem, out=tmp_path, show=False)


def test_problems_with_tuples_and_nested_fields_are_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "tests.lab.problem.problems:nested"
    words = ["--workers=0", "--no-probe", f"--out={tmp_path}", "--config.sizes.width=4"]
    assert main(["compare", name, *words, "--config.shape=[3,4]"]) == 0
    config = (tmp_path / "causal-seed0" / "config.yaml").read_text()
    assert '"width": 4' in config
    assert '"shape": [3, 4]' in config
    assert main(["check", str(tmp_path / "causal-seed0"), PLUGIN]) == 0
    assert "causality  holds" in capsys.readouterr().out


@pytest.mark.slow
def test_what_python_and_numpy_draw_is_resumed(tmp_path: Path) -> None:
    from tests.lab.running import resonant as command

    name, words = "tests.lab.problem.problems:drawing", ("--workers=1", "--no-probe")
    killed = command("compare", name, *words, f"--out={tmp_path}/a", fault="checkpoint-written:1")
    assert killed.returncode != 0
    for folder in ("a", "b"):
        assert command("compare", name, *words, f"--out={tmp_path}/{folder}").returncode == 0
    assert quality(tmp_path / "a") == quality(tmp_path / "b")


@pytest.mark.slow
def test_runs_of_a_script_are_opened_from_its_file(tmp_path: Path) -> None:
    """``python FILE.py`` and ``FILE.py:NAME`` are one configuration; its runs are checked."""
    from tests.lab.running import resonant as command

    source = Path(problems.__file__).read_text().replace("seeds=2", "seeds=1")
    script = tmp_path / "mine.py"
    script.write_text(source + SCRIPT)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    words = ("--workers=1", "--no-probe", "--seeds=1", "--out=runs/mine")
    again = command("compare", "mine.py:experiment", *words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "kept" in again.stdout
    checked = command("check", "runs/mine/causal-seed0", "--plugins=mine", cwd=tmp_path)
    assert "causality  holds" in checked.stdout, checked.stderr


SCRIPT = """
if __name__ == "__main__":
    import dataclasses
    from resonant.lab import run_comparison
    from pathlib import Path
    one = dataclasses.replace(experiment, seeds=1)
    run_comparison(one, Path("runs/mine"), workers=1, probe=False)
"""


def test_training_fields_that_are_not_read_are_refused(tmp_path: Path) -> None:
    training = TrainingConfig(evaluation_windows=3)
    with pytest.raises(UserError, match="windows is not read by a Problem; a Problem's"):
        resonant.compare({"a": 1}, problems.Copying(training=training), out=tmp_path, show=False)


def test_methods_that_are_missing_say_so() -> None:
    bare = Problem()
    for call in (
        lambda: bare.model(1),
        lambda: bare.batch("train", 0, 0),
        lambda: bare.loss(torch.nn.Linear(1, 1), None),
    ):
        with pytest.raises(NotImplementedError, match="Problem has no method"):
            call()
    assert bare.metrics(torch.nn.Linear(1, 1), None) == {}


def test_the_first_tensor_of_a_batch_is_its_input() -> None:
    batch = {"name": "x", "pair": (None, [torch.ones(3), torch.zeros(2)])}
    assert first_tensor(batch).sum() == 3
    assert Problem().count(batch) == 3
    with pytest.raises(ValueError, match="holds no tensor"):
        first_tensor({"a": 1})


@pytest.mark.slow
def test_workers_and_kills_change_no_bit(compared: Compared, tmp_path: Path) -> None:
    """On workers, killed on the way, the runs are those of this process, and cost is measured."""
    from tests.lab.running import resonant as command

    options = ("--seeds=2", f"--out={tmp_path}", "--workers=2")
    name = "tests.lab.problem.problems:experiment"
    killed = command("compare", name, *options, fault="checkpoint-written:1")
    assert killed.returncode == 2
    assert "full-seed0: its worker ended (signal 9)" in killed.stderr
    done = command("compare", name, *options)
    assert done.returncode == 0, done.stderr
    assert "kFLOPs/row" in done.stdout
    assert quality(tmp_path) == quality(compared.out)
    assert json.loads((tmp_path / "probe.json").read_text())["costs"].keys() == {"causal", "full"}


@pytest.mark.slow
def test_rates_are_swept_by_validation_loss(tmp_path: Path) -> None:
    record = dataclasses.replace(
        problems.experiment, seeds=1, sweep={"learning_rate": [1e-5, 1e-2]}
    )
    found = run_comparison(record, tmp_path, workers=2, probe=False, show=False)
    rates = json.loads((tmp_path / "full-seed0" / "done.json").read_text())["learning_rate"]
    assert rates == 1e-2
    assert "Learning rates" in found.report().read_text()
