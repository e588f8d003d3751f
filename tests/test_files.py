"""Files that are whole or not there, on a disk that refuses."""

import errno
import resource
import signal
from pathlib import Path

import pytest

from resonant.files import disk_error, write_atomically
from resonant.lab.kit.metrics import COLUMNS, Metrics, read_metrics


def test_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old", "x")
    write_atomically(path, b"new", "x")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    write_atomically(path, b"old", "checkpoint")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_atomically(path, bytes(100_000), "checkpoint")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    says = str(disk_error(caught.value))
    assert says.startswith(str(path))
    assert "free some space, then run the same command again" in says


def test_no_space_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "x", b"content", "x")
    assert "No space left on device; free some space" in str(disk_error(caught.value))
    assert list(tmp_path.iterdir()) == []


def row(step: int, loss: float) -> dict[str, float]:
    return dict(zip(COLUMNS, (float(step), loss, loss / 3, 1e-3, 0.5), strict=True))


def test_metrics_read_back_exactly_and_end_at_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    metrics = Metrics(path)
    written = [row(step, 1 / (step + 7)) for step in (10, 20, 30)]
    for each in written:
        metrics.write(each)
    assert read_metrics(path) == written
    Metrics(path, written[:2]).write(row(30, 0.25))
    assert read_metrics(path) == [*written[:2], row(30, 0.25)]


def test_a_torn_row_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    Metrics(path).write(row(10, 0.5))
    whole = path.read_text()
    path.write_text(whole + "20,0.4")
    assert read_metrics(path) == [row(10, 0.5)]
    Metrics(path, read_metrics(path))
    assert path.read_text() == whole
