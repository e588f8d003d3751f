"""Preparations say how far they are: a bar in a terminal, a line a part elsewhere."""

import pytest
from rich.console import Console

from resonant.lab.kit import progress as preparing
from resonant.lab.kit.progress import progress


def run() -> None:
    with progress("speaking") as part:
        for what, count in (("train", 3), ("test", 2)):
            report = part(what, count)
            for done in range(count):
                report(done + 1)


def test_a_line_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    run()
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["speaking: train, 3", "speaking: test, 2"]
    assert captured.out == ""


def test_a_bar_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminal(**options: bool) -> Console:
        return Console(force_terminal=True, width=80, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(preparing, "plain_console", terminal)
    run()
    said = capsys.readouterr().err
    assert "speaking: train" in said
    assert "2/2" in said
