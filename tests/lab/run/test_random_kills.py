"""Killed at random moments, as by a power cut, and started again: the same numbers."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..alignment.test_task import TINY as ALIGN
from ..running import quality
from ..speech.speaking import write_text
from ..speech.test_task import FAST as SPEECH

pytestmark = pytest.mark.slow
KILLS = {"align": 9, "speech": 8, "cache": 8}


def started(cache: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command line, with whatever it starts, in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "resonant.cli.main", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
    )


def finish(cache: Path, *arguments: str) -> float:
    """Run to the end; returns how many seconds that took."""
    begun = time.monotonic()
    process = started(cache, *arguments)
    errors = process.communicate(timeout=240)[1]
    assert process.returncode == 0, errors
    return time.monotonic() - begun


def kill(cache: Path, seconds: float, *arguments: str) -> bool:
    """Kill the command and its workers after so many seconds; False if it was done before."""
    process = started(cache, *arguments)
    try:
        errors = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, errors
    return False


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def survives(
    given: Callable[[Path], list[str]], folder: Path, kills: int, *, fresh_cache: bool = False
) -> None:
    cache = folder / "cache"
    whole, killed = folder / "whole", folder / "killed"
    taken = finish(cache, *given(whole))
    other = folder / "other-cache" if fresh_cache else cache
    draw = random.Random(kills)
    times = [draw.uniform(0.5, 1.0) * min(taken, 7.0) for _ in range(kills)]
    landed = sum(kill(other, seconds, *given(killed)) for seconds in times)
    assert landed >= kills // 2
    finish(other, *given(killed))
    assert quality(killed) == quality(whole)
    if fresh_cache:
        kept = {p.name: p.read_bytes() for p in (cache / "resonant" / "speech").glob("*.npz")}
        again = (other / "resonant" / "speech").glob("*.npz")
        assert {p.name: p.read_bytes() for p in again} == kept


def test_alignment(tmp_path: Path) -> None:
    survives(lambda out: ["compare", "align", f"--out={out}", *ALIGN], tmp_path, KILLS["align"])


def test_speech(tmp_path: Path, text: Path) -> None:
    def given(out: Path) -> list[str]:
        return ["compare", "speech", f"--data.path={text}", f"--out={out}", *SPEECH]

    survives(given, tmp_path, KILLS["speech"])


def test_a_cache_being_filled(tmp_path: Path, text: Path) -> None:
    """Killed while eSpeak NG speaks, mostly: more utterances, one arm, a step."""

    def given(out: Path) -> list[str]:
        more = ["--data.utterances=400", "--arms=softmax-guided", "--seeds=1", "--no-probe"]
        speech = [each for each in SPEECH if not each.startswith(("--arms", "--seeds"))]
        return ["compare", "speech", f"--data.path={text}", f"--out={out}", *speech, *more]

    survives(given, tmp_path, KILLS["cache"], fresh_cache=True)
