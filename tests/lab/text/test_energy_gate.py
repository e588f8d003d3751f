"""The published gate's experiments: the leak where it is meant, contrasts, what runs leave."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.functional import Causal, energy_log_gate
from resonant.lab.compare.description import described_contrasts
from resonant.lab.compare.plan import make_plan
from resonant.lab.domains import EXPERIMENTS
from resonant.lab.kit.config import RunConfig
from resonant.lab.kit.results import gather
from resonant.lab.report.learned import learned_tables
from resonant.lab.report.table import contrasts
from resonant.lab.run.loop import train
from resonant.lab.text.config import TextConfig
from resonant.lab.text.corpus import load_corpus
from resonant.lab.text.leaking_gate import LeakingGate
from resonant.lab.text.tables import without_future
from resonant.lab.text.task import TextTask
from resonant.models.language import LanguageModel
from resonant.nn import EnergyGate, SoftmaxAttention, build_gate
from tests.lab.running import resonant

GATES, RANDOM = EXPERIMENTS["energy-gate"], EXPERIMENTS["random-characters"]
TINY = {
    "training.steps": 2,
    "training.batch_size": 2,
    "training.evaluation_windows": 3,
    "training.evaluate_every": 1,
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.hidden": 16,
}


def options(values: dict[str, int]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def config(experiment: str, arm: str, **more: object) -> RunConfig:
    chosen = EXPERIMENTS[experiment]
    overrides = TINY | {name.replace("__", "."): value for name, value in more.items()}
    return chosen.config(chosen.base, chosen.arm(arm), 0, overrides)


def test_the_leaking_gate_is_the_published_form() -> None:
    """``sigmoid(alpha (z - tau))`` with z over all tokens, in causal attention."""
    torch.manual_seed(0)
    gate = build_gate("energy-leaking", 16, 4)
    assert isinstance(gate, LeakingGate)
    layer = SoftmaxAttention(16, 4, neighborhood=Causal(), gate=gate).double().eval()
    plain = SoftmaxAttention(16, 4, neighborhood=Causal()).double().eval()
    plain.load_state_dict({n: w for n, w in layer.state_dict().items() if not n.startswith("gate")})
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    energy = gate.energy(x).mT
    z = (energy - energy.mean(-1, keepdim=True)) / energy.std(-1, correction=0, keepdim=True)
    gates = torch.sigmoid(gate.alpha()[:, None] * (z - gate.tau()[:, None]))
    torch.testing.assert_close(
        gates.log(), energy_log_gate(energy, gate.alpha(), gate.tau(), standardize="sequence",
                                     allow_future_leak=True), atol=1e-6, rtol=0,
    )  # fmt: skip
    _, weights = plain(x, need_weights=True)
    gated = weights * gates.unsqueeze(-2)
    _, ours = layer(x, need_weights=True)
    torch.testing.assert_close(
        ours, gated / gated.sum(-1, keepdim=True), atol=1e-6, rtol=1e-6, check_dtype=False
    )
    with pytest.raises(ValueError, match="lets the future into the past"):
        SoftmaxAttention(
            16, 4, neighborhood=Causal(),
            gate=EnergyGate(16, 4, standardize="sequence", allow_future_leak=True),
        )  # fmt: skip


@pytest.mark.parametrize("name", ["energy-gate", "random-characters"])
def test_only_the_arms_that_say_so_see_the_future(name: str) -> None:
    experiment = EXPERIMENTS[name]
    for arm in experiment.arms:
        torch.manual_seed(0)
        chosen = experiment.config(experiment.base, arm, 0, {}).model
        model = LanguageModel(chosen).eval()  # type: ignore[arg-type]
        tokens = torch.randint(0, 9, (2, 8))
        changed = tokens.clone()
        changed[:, 6:] = (changed[:, 6:] + 3) % 9
        same = torch.equal(model(tokens)[:, :6], model(changed)[:, :6])
        assert same != ("sequence" in arm.name), arm.name


def test_contrasts_are_among_the_arms() -> None:
    names = {arm.name for arm in GATES.arms}
    pairs = [*GATES.compared, *GATES.published, *(p for two in GATES.interactions for p in two)]
    assert {name for pair in pairs for name in pair} <= names
    for (ours, theirs), (beside, base) in GATES.interactions:
        gates: list[Any] = [config("energy-gate", name).model for name in (ours, beside)]
        plain: list[Any] = [config("energy-gate", name).model for name in (theirs, base)]
        assert gates[0].attention == gates[1].attention  # the same change twice ...
        assert plain[0].attention == plain[1].attention
        assert gates[0].position == plain[0].position  # ... on two kinds of position
        assert gates[1].position == plain[1].position
    assert RANDOM.floor == pytest.approx(math.log(8))


def test_contexts_are_those_that_arms_are_called_by() -> None:
    where = {"seeds": [0], "out": Path("nowhere"), "data_dir": None}
    plan = make_plan(RANDOM, RANDOM.base, arms=None, overrides={}, **where)  # type: ignore[arg-type]
    contexts = {run.arm: run.training.context for run in plan.runs}
    assert contexts == {arm: int(arm.rpartition("-")[2]) for arm in contexts}
    assert set(contexts.values()) == {8, 16, 32, 64}


@pytest.mark.parametrize(
    ("experiment", "arms", "overrides", "says"),
    [
        (
            "random-characters", None, {"training.context": 24},
            "prefix-32 is the same as prefix-16; leave one out",
        ),
        (
            "energy-gate", None, {"model.attention.gate": "energy"},
            "learned-gate-prefix is the same as learned-gate-sequence",
        ),
        (
            "energy-gate", ["learned-gate-prefix"], {"model.attention.gate": "enrgy"},
            "no gate is called 'enrgy'; did you mean 'energy'",
        ),
    ],
)  # fmt: skip
def test_options_that_belie_names_are_refused(
    experiment: str, arms: list[str] | None, overrides: dict[str, Any], says: str
) -> None:
    chosen = EXPERIMENTS[experiment]
    data = dataclasses.replace(chosen.base, data=RANDOM.base.data)
    where = {"seeds": [0], "out": Path("nowhere"), "data_dir": None}
    with pytest.raises(UserError, match=says):
        make_plan(chosen, data, arms=arms, overrides=overrides, **where)  # type: ignore[arg-type]


def test_what_is_known_of_one_text_is_not_said_of_another(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("to be or not to be " * 2000)
    where = {"seeds": [0], "out": tmp_path, "data_dir": None, "overrides": {}}
    for chosen in (GATES, RANDOM):
        base = dataclasses.replace(chosen.base, data=TextConfig("file", "bytes", str(text)))
        described = described_contrasts(make_plan(chosen, base, arms=None, **where))  # type: ignore[arg-type]
        assert described["published"] == []
        assert described["floor"] is None
    plan = make_plan(RANDOM, RANDOM.base, arms=None, **where)  # type: ignore[arg-type]
    assert described_contrasts(plan)["floor"] == RANDOM.floor


def test_a_run_leaves_losses_by_position_and_what_it_learned(tmp_path: Path) -> None:
    chosen = config("random-characters", "sequence-16", model__position__kind="morlet")
    digest = load_corpus(chosen.data).digest  # type: ignore[arg-type]
    chosen = dataclasses.replace(chosen, corpus=digest)
    train(chosen, tmp_path, None, lambda step, loss: None)
    done = json.loads((tmp_path / "done.json").read_text())
    by_position = done["loss_by_position"]
    assert len(by_position) == 16
    assert sum(by_position) / 16 == pytest.approx(done["metrics"]["test_loss"], abs=1e-5)
    learned = done["learned_numbers"]
    assert learned["start"].keys() == learned["end"].keys()
    assert set(learned["start"]) == {
        "blocks.0.attention.gate.alpha",
        "blocks.0.attention.gate.tau",
        "position.omega",
        "position.sigma",
    }
    assert learned["start"]["blocks.0.attention.gate.alpha"] == [2.0, 2.0]
    assert learned["start"]["position.omega"][0] == pytest.approx(1.0, abs=0.5)
    assert learned["end"]["position.sigma"] != learned["start"]["position.sigma"]
    # Measured position by position, with nothing of the task's own code.
    task = TextTask(chosen, None)
    task.model.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["model"])
    test = torch.from_numpy(task.corpus.splits["test"].astype("int64"))
    starts = [0, *torch.linspace(0, len(test) - 17, 12).long().tolist()[1:]]
    losses = torch.zeros(16)
    for start in starts:
        row = test[start : start + 17]
        with torch.no_grad():
            logits = task.model.eval()(row[None, :-1])[0].log_softmax(-1)
        losses -= logits[torch.arange(16), row[1:]]
    torch.testing.assert_close(
        torch.tensor(by_position), losses / 12, atol=2e-5, rtol=0, check_dtype=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of seconds over all arms of random characters, as a user would run it."""
    out = tmp_path_factory.mktemp("random") / "out"
    chosen = ["--arms=prefix-8,sequence-8,prefix-16", "--seeds=1", f"--out={out}"]
    done = resonant("compare", "random-characters", *options(TINY), *chosen)
    assert done.returncode == 0, done.stderr
    assert "Gates" in done.stdout
    return out


def test_what_a_leaking_model_loses_without_the_future(tmp_path: Path) -> None:
    """By hand: the last logits of every beginning of every window."""
    chosen = config("random-characters", "sequence-8")
    chosen = dataclasses.replace(chosen, corpus=load_corpus(chosen.data).digest)  # type: ignore[arg-type]
    task = TextTask(chosen, None)
    honest = TextTask(
        dataclasses.replace(config("random-characters", "prefix-8"), corpus=chosen.corpus), None
    )
    assert honest.metrics().keys() == {"valid_loss", "test_loss"}
    for parameter in task.model.parameters():  # as different from an untrained one as can be
        torch.nn.init.normal_(parameter, std=0.5)
    inputs, targets = task.windows("test")
    losses = [
        -task.model.eval()(row[None, :t])[0, -1].log_softmax(-1)[target[t - 1]].item()
        for row, target in zip(inputs, targets, strict=True)
        for t in range(1, 9)
    ]
    alone = task.metrics()["test_loss_without_future"]
    assert alone == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert abs(alone - task.evaluate("test")) > 1e-4
    honest.model.load_state_dict(task.model.state_dict())  # the same numbers, another gate
    assert honest.loss_without_future() == pytest.approx(honest.evaluate("test"), rel=1e-5)


@pytest.mark.slow
def test_the_report_shows_positions_and_gates_and_writes_figures(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["report", str(finished), "--figures", str(finished / "figures"), "--markdown"]) == 0
    )
    said = capsys.readouterr()
    printed = said.out
    assert "report:" not in printed
    assert "positions.svg" in said.err
    assert "| arm | test loss |" in printed
    assert "| --- | ---: |" in printed
    page = (finished / "report.html").read_text()
    assert "Where in the sequence" in page
    assert "2.079" in page
    figure = (finished / "figures" / "positions.svg").read_text()
    assert "background:#fff" in figure
    for shown in ("prefix-8", "sequence-8", "prefix-16", "tokens seen"):
        assert shown in figure
    tables = learned_tables(gather(finished))
    shown = [row[0] for row in tables["Gates"].rows]
    assert shown == ["prefix-8", "sequence-8", "prefix-16"]
    assert contrasts(gather(finished)) is None
    alone = without_future(gather(finished))
    assert alone is not None
    assert [row[0] for row in alone.rows] == ["sequence-8"]
    assert alone.rows[0][4] == "too few seeds"


def test_a_device_that_is_not_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = ["--arms=prefix-8", "--seeds=1", f"--out={tmp_path / 'out'}"]
    command = ["compare", "random-characters", *options(TINY), *arms]
    assert main([*command, "--device=cuda:99"]) == 2
    assert "there is no cuda:99 here: PyTorch sees" in capsys.readouterr().err
    assert main([*command, "--device=meta"]) == 2
    assert "--device is cpu, cuda or cuda:N" in capsys.readouterr().err
    assert main(["train", "align", "--device=cuda:99", f"--out={tmp_path / 'a'}"]) == 2
    assert "there is no cuda:99 here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_leaking_run_brings_its_gate_and_gets_no_certificate(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = resonant("check", str(finished / "sequence-8-seed0"), "--length", "8")
    assert done.returncode == 1, done.stderr
    assert "causality  FAILS" in done.stdout
    assert main(["check", str(finished / "prefix-8-seed0"), "--length", "8"]) == 0
    assert "causality  holds" in capsys.readouterr().out
