"""The page in a real browser: no console error, wide and narrow, light and dark."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from resonant.lab.kit.results import gather
from resonant.lab.report.page import write_report

from .test_report import comparison

CHROMIUM = shutil.which("chromium")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
]


def test_the_gate_has_a_browser() -> None:
    assert CHROMIUM or not os.environ.get("CI"), "the gate installs chromium: see .ci/run"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("scheme", [0, 1])
def test_no_console_error(width: int, scheme: int, tmp_path: Path) -> None:
    page = write_report(gather(comparison(tmp_path)), tmp_path)
    picture = tmp_path / "page.png"
    finished = subprocess.run(
        [
            str(CHROMIUM),
            *OPTIONS,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},1800",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={picture}",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert picture.stat().st_size > 10_000, finished.stderr
    assert "CONSOLE" not in finished.stderr
