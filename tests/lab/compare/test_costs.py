"""What is loaded and held at once: the probe in groups, texts once, a GPU for each worker."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from resonant.errors import UserError
from resonant.lab.compare import compare as comparing
from resonant.lab.compare import costs
from resonant.lab.compare.costs import TOGETHER, groups, joined, measure_costs
from resonant.lab.compare.plan import Plan, make_plan
from resonant.lab.domains import EXPERIMENTS
from resonant.lab.run import pool as pools
from resonant.lab.run.pool import Pool, RunState
from resonant.lab.run.process import Child
from resonant.lab.text import corpus

from ..running import TINY, resonant, write_text

STDLIB = EXPERIMENTS["stdlib"]


def planned(out: Path, *, seeds: int = 1, **more: Any) -> Plan:
    options: dict[str, Any] = {"arms": None, "data_dir": None, "overrides": {}} | more
    return make_plan(STDLIB, STDLIB.base, seeds=range(seeds), out=out, **options)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 33, 100])
def test_groups_hold_few_arms_and_the_first_in_each(count: int) -> None:
    names = [f"arm-{i}" for i in range(count)]
    made = list(groups(names))
    assert all(2 <= len(group) <= TOGETHER for group in made) or count == 1
    assert all(group[0] == "arm-0" for group in made)
    assert ["arm-0", *(name for group in made for name in group[1:])] == names


def test_times_of_groups_are_put_in_proportion_by_the_first_arm() -> None:
    first = {"a": {"step_seconds": 1.0, "peak_bytes": 5.0}, "b": {"step_seconds": 2.0}}
    busier = {"a": {"step_seconds": 4.0, "peak_bytes": 6.0}, "c": {"step_seconds": 12.0}}
    found = joined(joined({}, first, anchor="a"), busier, anchor="a")
    assert found == {
        "a": {"step_seconds": 1.0, "peak_bytes": 5.0},
        "b": {"step_seconds": 2.0},
        "c": {"step_seconds": 3.0},
    }


class Fake(Child):
    """A child that costs what its arm's name says, and counts those that live beside it."""

    alive = 0
    most = 0

    def __init__(self, module: str) -> None:  # no process
        assert module == "resonant.lab.run.cost"
        Fake.alive += 1
        Fake.most = max(Fake.most, Fake.alive)
        self.answers: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any] | str) -> None:
        if isinstance(message, dict):
            self.arm = message["config"]["arm"]
        finished = message == "finish"
        answer = {"peak_bytes": 1.0, "flops_per_token": 2.0, "tokens_per_step": 10}
        self.answers.append(answer if finished else {"step_seconds": 0.1 * len(self.arm)})

    def receive(self) -> dict[str, Any]:
        return self.answers.pop(0)

    def close(self) -> None:
        Fake.alive -= 1


def test_a_probe_of_many_arms_holds_few_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "Child", Fake)
    made = planned(tmp_path)
    assert len(made.arms) > TOGETHER
    said: list[str] = []
    measure_costs(made, said.append)
    assert (Fake.most, Fake.alive) == (TOGETHER, 0)
    found = json.loads((tmp_path / "probe.json").read_text())["costs"]
    assert found.keys() == {arm.name for arm in made.arms}
    for name, cost in found.items():
        assert cost["tokens_per_second"] == pytest.approx(10 / (0.1 * len(name)))
    assert len(said) == len(list(groups(list(found))))
    monkeypatch.setattr(costs, "Child", None)  # kept: would fail if called
    measure_costs(made, said.append)


@pytest.mark.slow
def test_a_probe_of_two_arms_takes_seconds(tmp_path: Path) -> None:
    """10 s on quiet cores; here other tests run beside it."""
    made = planned(tmp_path, arms=["softmax", "krause-window"])
    started = time.monotonic()
    measure_costs(made, lambda line: None)
    assert time.monotonic() - started < 20
    found = json.loads((tmp_path / "probe.json").read_text())["costs"]
    assert (
        0.2
        < found["softmax"]["tokens_per_second"] / found["krause-window"]["tokens_per_second"]
        < 5
    )


@pytest.mark.slow
def test_without_a_probe_nothing_is_measured_and_old_costs_are_gone(tmp_path: Path) -> None:
    text, out = write_text(tmp_path), tmp_path / "out"
    given = ["compare", "stdlib", f"--data.path={text}", "--data.name=file", f"--out={out}", *TINY]
    first = resonant(*given)
    assert "measuring time and memory" in first.stdout
    assert "peak MB" in (out / "report.html").read_text()
    kept = resonant(*given, "--no-probe")
    assert kept.returncode == 0, kept.stderr
    assert "peak MB" in (out / "report.html").read_text()  # of the very same runs
    again = resonant(*given, "--no-probe", "--training.steps=8", "--overwrite")
    assert again.returncode == 0, again.stderr
    assert "measuring" not in again.stdout
    assert not (out / "probe.json").exists()
    assert "peak MB" not in (out / "report.html").read_text()


def test_a_text_is_loaded_once_for_all_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_text(tmp_path)
    loaded: list[str] = []
    load = corpus.load_corpus

    def counted(*given: Any) -> Any:
        loaded.append("once")
        return load(*given)

    monkeypatch.setattr(corpus, "load_corpus", counted)
    made = planned(tmp_path, seeds=3, overrides={"data.name": "file", "data.path": str(text)})
    assert len(made.runs) == 3 * len(STDLIB.arms) >= 42
    assert loaded == ["once"]


class Worker(Child):
    """A child that finishes each run at once and keeps the device it was given."""

    devices: list[str]

    def __init__(self, module: str) -> None:  # no process
        del module
        self.process: Any = self

    def poll(self) -> None:
        return None

    def send(self, message: dict[str, Any] | str) -> None:
        assert isinstance(message, dict)
        self.own = message["device"]
        Worker.devices.append(self.own)

    def receive(self) -> dict[str, Any]:
        time.sleep(0.02)
        return {"event": "done"}

    def stop(self) -> None: ...

    def close(self) -> None: ...


def test_workers_take_gpus_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Constructed, as there is none here: "cuda" is all of them, "cuda:1" that one."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    every = planned(tmp_path, device="cuda")
    assert every.devices == ("cuda:0", "cuda:1", "cuda:2")
    assert planned(tmp_path, device="cuda:1").devices == ("cuda:1",)
    assert planned(tmp_path).devices == ("cpu",)
    assert comparing.default_workers(every.devices) == 3
    assert comparing.default_workers(("cpu",)) >= 1
    with pytest.raises(UserError, match="there is no cuda:3 here: PyTorch sees 3 GPUs"):
        planned(tmp_path, device="cuda:3")
    Worker.devices = []
    monkeypatch.setattr(pools, "Child", Worker)
    states = [RunState(tmp_path, every.job(run), run.training.steps) for run in every.runs[:9]]
    Pool(states, 3, devices=every.devices).run(lambda: None)
    assert {state.status for state in states} == {"done"}
    assert set(Worker.devices) == {"cuda:0", "cuda:1", "cuda:2"}


@pytest.mark.slow
def test_sixty_runs_leave_the_parent_s_memory_flat(tmp_path: Path) -> None:
    text, out = write_text(tmp_path), tmp_path / "out"
    tiny = [each for each in TINY if not each.startswith(("--arms", "--seeds", "--model.att"))]
    given = [
        f"--data.path={text}",
        "--data.name=file",
        f"--out={out}",
        *tiny,
        "--seeds=20",
        "--workers=2",
    ]
    arms = "--arms=softmax,softmax-window,krause-window"
    parent = subprocess.Popen(
        [sys.executable, "-m", "resonant.cli.main", "compare", "stdlib", *given, arms],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    memory: dict[int, int] = {}
    while parent.poll() is None:
        done = len(list(out.glob("*/done.json")))
        resident = Path(f"/proc/{parent.pid}/statm").read_text().split()
        if done < 60 and resident:
            memory[done] = max(memory.get(done, 0), int(resident[1]) * 4096)
        time.sleep(0.1)
    _, errors = parent.communicate()
    assert parent.returncode == 0, errors
    assert len(list(out.glob("*/done.json"))) == 60
    early = max(size for done, size in memory.items() if done <= 10)
    late = max(size for done, size in memory.items() if done >= 40)
    assert late - early < 8e6, f"{early / 1e6:.0f} MB, then {late / 1e6:.0f}"
