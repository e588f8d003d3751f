"""Killed at any named point and started again, a comparison ends with bitwise the same numbers."""

import signal
from pathlib import Path

import pytest

from resonant.files import FAULT_POINTS

from ..running import compare, quality, write_text

# See test_sweep and test_align.
LIKE_OTHERS = {
    "run-started",
    "config-half",
    "done-half",
    "probe-half",
    "step",
    "metrics-half",
    "metrics-written",
    "checkpoint-half",
    "checkpoint-unreplaced",
    "checkpoint-written",
    "model-written",
    "report-half",
}
ELSEWHERE = {"sweep-half", "run-adopted", "alignment-half", "logged", "shards-written"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def uninterrupted(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("whole")
    finished = compare(text, out)
    assert (out / "report.html").is_file(), finished.stderr
    found = quality(out)
    assert len(found) == 1
    assert [row["step"] for row in found["krause-window-topk-seed0"][1]] == ["2", "4", "6"]  # type: ignore[index]
    return found


def test_there_are_a_dozen_points() -> None:
    assert len(set(FAULT_POINTS)) >= 12


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(p, marks=pytest.mark.slow if p in LIKE_OTHERS else ())
        for p in sorted(set(FAULT_POINTS) - ELSEWHERE)
    ],
)
def test_killed_and_started_again(
    point: str, text: Path, uninterrupted: dict[str, object], tmp_path: Path
) -> None:
    # The third step and the second passing of what happens at every evaluation: mid-run.
    repeated = ("metrics-half", "metrics-written", "checkpoint-half", "checkpoint-unreplaced")
    count = 3 if point == "step" else 2 if point in (*repeated, "checkpoint-written") else 1
    killed = compare(text, tmp_path, fault=f"{point}:{count}")
    assert killed.returncode != 0
    in_worker = point not in ("probe-half", "report-half")
    if in_worker:
        assert "Run the same command again: what is finished is kept" in killed.stderr
        assert "Traceback" not in killed.stderr
        done = tmp_path / "krause-window-topk-seed0" / "done.json"
        assert done.exists() == (point == "done-written")
    else:
        assert killed.returncode == -signal.SIGKILL
        assert not (tmp_path / "report.html").exists()
    again = compare(text, tmp_path)
    assert (tmp_path / "report.html").is_file(), again.stderr
    assert quality(tmp_path) == uninterrupted


@pytest.mark.slow
def test_finished_runs_are_kept(text: Path, uninterrupted: dict, tmp_path: Path) -> None:
    compare(text, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/done.json")}
    again = compare(text, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/done.json")} == before
    assert again.stdout.count(": kept") == 1


@pytest.mark.slow
def test_more_workers_and_seeds_change_no_run(
    text: Path, uninterrupted: dict, tmp_path: Path
) -> None:
    compare(text, tmp_path, "--workers=2", "--seeds=2")
    both = quality(tmp_path)
    assert len(both) == 2
    assert both["krause-window-topk-seed0"] == uninterrupted["krause-window-topk-seed0"]
