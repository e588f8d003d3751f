"""Damaged files, shared folders, dying parents, talkative children."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resonant.errors import UserError
from resonant.lab.compare.folders import lock
from resonant.lab.run.pool import Pool, RunState
from resonant.lab.run.process import Child

from ..running import TINY, compare, quality, write_text

RUN = "krause-window-topk-seed0"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "last.ckpt",
        "done.json",
        "config.yaml",
    ],
)
@pytest.mark.slow
def test_a_damaged_file_is_named_and_deleting_it_is_enough(
    name: str, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    compare(text, out)
    whole = quality(out)
    if name == "last.ckpt":
        (out / RUN / "done.json").unlink()
    (out / RUN / name).write_bytes(b"\x00\x01 {damaged")
    refused = compare(text, out)
    assert refused.returncode == 2, refused.stderr
    assert f"{name} is damaged (" in refused.stderr
    assert "delete it and run the same command again" in refused.stderr
    assert "Traceback" not in refused.stderr
    (out / RUN / name).unlink()
    compare(text, out)
    assert quality(out) == whole


def test_one_comparison_a_folder(tmp_path: Path) -> None:
    with (
        lock(tmp_path),
        pytest.raises(UserError, match="another comparison is at work"),
        lock(tmp_path),
    ):
        pass
    with lock(tmp_path):
        pass


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGINT]
)
def test_a_parent_killed_or_interrupted_leaves_no_worker_and_goes_on(
    how: signal.Signals, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    # A shell's background job ignores SIGINT, and Python then does, too.
    restored = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    run = "from resonant.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", restored + run, "compare", "stdlib"]
    options = ["--data.name=file", f"--data.path={text}", f"--out={out}", *TINY]
    long = [o for o in options if "steps" not in o] + ["--training.steps=3000"]
    parent = subprocess.Popen(
        [*command, *long], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 60
    while not (out / RUN / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    children = _children(parent.pid)
    assert children
    parent.send_signal(how)
    _, error = parent.communicate(timeout=60)
    if how == signal.SIGINT:
        assert parent.returncode == 130
        assert error.strip() == "resonant: stopped; the same command goes on from here"
    deadline = time.monotonic() + 20
    while any(_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(child) for child in children)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    found = [int(child) for child in text.split()]
    # Threads start workers too; each thread lists its own children.
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return sorted(set(found))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_talkative_child_does_not_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys\nsys.stderr.write('x' * 1_000_000 + '\\nlast words\\n')\nprint('{\"a\": 1}')\n"
    )
    (tmp_path / "talkative.py").write_text(code + "sys.exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = Child("talkative")
    assert child.receive() == {"a": 1}
    assert child.receive() is None
    assert child.last_words() == "status 3: last words"
    child.close()


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_run_and_not_the_others(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = compare(text, tmp_path / "out", "--seeds=2", fault="model-written")
    assert finished.returncode == 1
    # The fault kills each worker at its first run: both fail, one after the other.
    assert "(2 runs failed)" in finished.stderr
    again = compare(text, tmp_path / "out", "--seeds=2")
    assert len(quality(tmp_path / "out")) == 2, again.stderr


def test_an_empty_pool_ends_at_once() -> None:
    states: list[RunState] = []
    Pool(states, 2).run(lambda: None)
