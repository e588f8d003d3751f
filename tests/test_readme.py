"""What the README shows runs, and what it names exists."""

import re
from pathlib import Path

import pytest

from resonant.functional.mechanism import _MECHANISMS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [README, *((ROOT / "docs" / f"{name}.md").read_text() for name in ("kuramoto", "clocks"))]
BLOCKS = [b for page in PAGES for b in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)]


@pytest.mark.parametrize("code", BLOCKS)
def test_code_runs(code: str) -> None:
    before = dict(_MECHANISMS)
    try:
        exec(compile(code, "README.md", "exec"), {})
    finally:
        _MECHANISMS.clear()
        _MECHANISMS.update(before)


def test_there_is_code() -> None:
    assert len(BLOCKS) == 4


def test_links_and_commands_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for command in [*re.findall(r"`make ([a-z-]+)`", README), "demo", "test"]:
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE), command


def test_the_gate_is_the_readme_s_test_command_then_lint_and_types() -> None:
    gate = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make (\S+)$", gate, flags=re.MULTILINE) == ["test", "lint"]
    assert "pyright" in (ROOT / "Makefile").read_text()
