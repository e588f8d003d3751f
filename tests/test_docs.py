"""What the README and the site show runs, what they name exists, and the site builds strictly."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from resonant.cli.loading import load_named
from resonant.cli.main import commands as known_commands
from resonant.cli.options import parse, parsed, training_parser
from resonant.cli.own import make_parser
from resonant.lab.domains import EXPERIMENTS
from resonant.mechanism import _MECHANISMS
from resonant.testing import LAWS  # its import binds every lift before a page adds its own

ROOT = Path(__file__).parent.parent
SITE = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SITE]
OF_COMPARE = (
    "--against",
    "--arms",
    "--seeds",
    "--workers",
    "--sweep",
    "--estimate",
    "--no-probe",
    "--write-job",
)


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


WITH_CODE = [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_code_runs(
    page: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks of a page run in order, in one namespace."""
    assert LAWS
    if page.name == "export.md":  # sizes are symbols there, which are no integers
        request.getfixturevalue("unchecked")
    before, names = dict(_MECHANISMS), {"__name__": page.stem}
    monkeypatch.chdir(tmp_path)  # what a block writes
    try:
        for block in blocks(page):
            exec(compile(block, str(page), "exec"), names)
    finally:
        _MECHANISMS.clear()
        _MECHANISMS.update(before)
    if page.name == "checking.md":
        assert "causality" in capsys.readouterr().out


def test_there_is_code_on_every_page_that_should_have_some() -> None:
    names = {page.name for page in WITH_CODE}
    mechanisms = {page.name for page in (ROOT / "docs" / "mechanisms").iterdir()} - {"index.md"}
    own = {"README.md", "start.md", "composing.md", "own-mechanism.md", "checking.md", "seeing.md"}
    own |= {"compare-your-own.md"}
    assert names >= own | mechanisms


@pytest.mark.parametrize("page", SITE, ids=lambda page: page.name)
def test_equations_point_at_code(page: Path) -> None:
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", page.read_text()):
        tree = ast.parse((ROOT / "src" / "resonant" / file).read_text())
        assert name in {n.name for n in tree.body if hasattr(n, "name")}, f"{file}::{name}"


def test_every_mechanism_s_page_maps_equations_to_code() -> None:
    for page in (ROOT / "docs" / "mechanisms").glob("*.md"):
        if page.name not in ("index.md", "kuramoto.md", "clock.md"):
            assert len(re.findall(r"\.py::\w+`", page.read_text())) >= 4, page.name


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command of ours on the pages."""
    found = []
    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", page.read_text())
        lines = re.findall(r"^    (?:\.venv/bin/)?resonant (.*)$", text, flags=re.MULTILINE)
        lines += re.findall(r"`(?:\.venv/bin/)?resonant ([a-z][^`]*)`", text)
        for line in lines:
            found.append((page.name, shlex.split(line, comments=True)))
    return found


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda x: " ".join(x)[:60])
def test_commands_are_commands(page: str, words: list[str]) -> None:
    """Subcommand, experiment and every option are known; nothing is run."""
    command, *rest = words
    assert command in known_commands() or command == "COMMAND", page
    if "EXPERIMENT" in rest or "..." in rest or not rest:
        return
    if command not in ("compare", "train"):
        module = importlib.import_module(known_commands()[command][0])
        if hasattr(module, "make_parser"):
            module.make_parser().parse_args(rest)
        return
    name = rest.pop(0) if rest and not rest[0].startswith("-") else "stdlib"
    if ":" in name:  # a comparison of one's own
        comparison = load_named(str(ROOT / name))
        if "--help" not in rest:
            parsed(make_parser(name, comparison), rest)
        return
    assert name in EXPERIMENTS, f"{page}: {name}"
    experiment, given = EXPERIMENTS[name], []
    for option, value in options_of(rest):
        if option == "--arms":
            for arm in (value or "").split(","):
                experiment.arm(arm)
        if option in (*OF_COMPARE, "--arm", "--help"):
            continue
        given += [option] if value is None else [option, value]
    parse(training_parser(command, experiment), given)


def options_of(words: list[str]) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for word in words:
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            found.append((option, value if equals else None))
        else:
            found[-1] = (found[-1][0], word)
    return found


def test_links_and_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        text = page.read_text()
        for target in re.findall(r"\]\(([^)#\s]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for command in re.findall(r"`make ([a-z-]+)`", text):
            assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE), command


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "mechanisms" / "krause" / "index.html").is_file()
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in SITE:
        assert str(page.relative_to(ROOT / "docs")) in nav, f"{page.name} is not in the navigation"


def test_the_gate_is_the_readme_s_test_command_then_lint_and_types_then_the_slow_set() -> None:
    gate = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make (\S+)$", gate, flags=re.MULTILINE) == ["test", "lint", "test-slow"]
    assert "pyright" in (ROOT / "Makefile").read_text()
