"""A run inside a function of one's own: checkpoints, generators, logs, and ten kills."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from resonant.errors import UserError
from resonant.lab import Run
from resonant.lab.own.run import read_log

LOOP = '''
import random
import torch
import resonant

def train_and_score(arm, seed, run):
    """Every step draws from two generators, so that one out of place shows."""
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=arm)
    state = run.resume()
    done = 0 if state is None else state["step"]
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for step in range(done, 30):
        inputs = torch.randn(8, 3) + random.random()
        loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(step, mse=loss)
        if step % 4 == 3:
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            run.checkpoint({"step": step + 1, **kept})
    return {"mse": loss.item()}

if __name__ == "__main__":
    import sys
    found = resonant.compare({"slow": 1e-3, "fast": 1e-2}, train_and_score, seeds=2,
                             out=sys.argv[1], workers=int(sys.argv[2]), show=False)
    print(found.values("slow", "mse"), found.values("fast", "mse"))
'''


@pytest.fixture
def made() -> Iterator[Callable[..., Run]]:
    """Runs in folders, whose logs are closed in the end."""
    runs: list[Run] = []

    def make(folder: Path, known: str = "x") -> Run:
        folder.mkdir(exist_ok=True)
        run = Run(folder, arm="a", seed=0, config=None, known=known, report=lambda s, n: None)
        runs.append(run)
        return run

    yield make
    for run in runs:
        run.close()


def test_a_state_comes_back_as_it_was(made: Callable[..., Run], tmp_path: Path) -> None:
    state = {
        "step": 3,
        "model": nn.Linear(2, 2).state_dict(),
        "parameter": nn.Parameter(torch.ones(2)),
        "array": np.arange(6.0).reshape(2, 3),
        "nested": [1, (2.5, "x", None, True), {"deep": np.float32(2.0)}],
        5: b"bytes",
    }
    made(tmp_path).checkpoint(state)
    back = made(tmp_path).resume()
    assert torch.equal(back["model"]["weight"], state["model"]["weight"])
    assert np.array_equal(back["array"], state["array"])
    assert back["array"].dtype == state["array"].dtype
    assert torch.equal(back["parameter"], torch.ones(2))
    assert back["nested"] == [1, (2.5, "x", None, True), {"deep": 2.0}]
    assert (back["step"], back[5]) == (3, b"bytes")
    assert made(tmp_path, known="another").resume() is None
    assert made(tmp_path / "new").resume() is None


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"model": nn.Linear(1, 1)}, r"state\['model'\] has a Linear: give its state_dict\(\)"),
        ([{1}], r"state\[0\] has a set"),
        ({(1, 2): 3}, "state has a tuple"),
        (np.array(["a"]), "state has a ndarray"),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_refused(
    made: Callable[..., Run], tmp_path: Path, state: Any, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        made(tmp_path).checkpoint(state)


def test_generators_go_on_where_they_were(made: Callable[..., Run], tmp_path: Path) -> None:
    made(tmp_path).checkpoint(None)
    after = torch.rand(2), np.random.rand(2), random.random()
    made(tmp_path).resume()
    assert torch.equal(after[0], torch.rand(2))
    assert np.array_equal(after[1], np.random.rand(2))
    assert after[2] == random.random()


def test_rows_after_the_checkpoint_are_dropped(made: Callable[..., Run], tmp_path: Path) -> None:
    run = made(tmp_path)
    for step in range(5):
        run.log(step, mse=step / 2)
        if step == 2:
            run.checkpoint(step)
    run.close()
    again = made(tmp_path)
    assert again.resume() == 2
    again.log(3, mse=9.0)
    again.close()
    assert [row["mse"] for row in read_log(tmp_path / "log.jsonl")] == [0.0, 0.5, 1.0, 9.0]
    fresh = made(tmp_path)
    fresh.log(0, mse=1.0)
    fresh.close()
    assert len(read_log(tmp_path / "log.jsonl")) == 1
    with pytest.raises(ValueError, match=r"call run.resume\(\) before run.log"):
        fresh.resume()


def test_a_damaged_checkpoint_or_log_is_named(made: Callable[..., Run], tmp_path: Path) -> None:
    run = made(tmp_path)
    run.log(0, mse=1.0)
    run.checkpoint({"step": 1})
    run.close()
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(UserError, match="rows that the checkpoint vouches for are lost"):
        made(tmp_path).resume()
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[:-40] + b"x" + whole[-39:])
    with pytest.raises(UserError, match=r"last.ckpt is damaged"):
        made(tmp_path).resume()
    (tmp_path / "log.jsonl").write_text('{"step": 0}\n["a"]\n{"st')
    with pytest.raises(UserError, match="line 2 is no row of numbers"):
        read_log(tmp_path / "log.jsonl")


def loop(folder: Path, out: str, workers: int, fault: str = "") -> subprocess.CompletedProcess:
    (folder / "loop.py").write_text(LOOP)
    environment = {n: v for n, v in os.environ.items() if n != "RESONANT_FAULT"}
    return subprocess.run(
        [sys.executable, "loop.py", out, str(workers)],
        cwd=folder,
        env=environment | ({"RESONANT_FAULT": fault} if fault else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_killed_ten_times_inside_one_s_own_loop_the_numbers_are_the_same(tmp_path: Path) -> None:
    """This process is killed, as workers=0 runs in it, at ten places, the last in a worker."""
    whole = loop(tmp_path, "whole", 0)
    assert whole.returncode == 0, whole.stderr
    draws = random.Random(7)
    places = [f"logged:{draws.randrange(1, 25)}" for _ in range(6)]
    places += ["checkpoint-half:1", "checkpoint-unreplaced:1", "checkpoint-written:2"]
    for place in places:
        killed = loop(tmp_path, "out", 0, place)
        assert killed.returncode == -signal.SIGKILL, (place, killed.stderr)
    killed = loop(tmp_path, "out", 1, "logged:3")
    assert killed.returncode != 0
    assert "failed" in killed.stderr
    done = loop(tmp_path, "out", 1)
    assert done.stdout == whole.stdout
    for run in ("slow-seed0", "slow-seed1", "fast-seed0", "fast-seed1"):
        logs = [read_log(tmp_path / out / run / "log.jsonl") for out in ("whole", "out")]
        assert logs[0] == logs[1]
        assert len(logs[0]) == 30


@pytest.mark.slow
def test_a_script_from_standard_input_is_sent_to_workers(tmp_path: Path) -> None:
    """As in a notebook: no file holds the code, so it is sent; without a guard, too."""
    code = LOOP.replace('if __name__ == "__main__":', "if True:").replace("sys.argv[1]", '"out"')
    code = code.replace("int(sys.argv[2])", "2")
    done = [
        subprocess.run(
            [sys.executable, "-"],
            input=code,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        for _ in range(2)
    ]
    assert done[0].returncode == 0, done[0].stderr
    assert done[0].stdout == done[1].stdout == loop(tmp_path, "file", 0).stdout
