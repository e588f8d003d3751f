"""The house rules that a machine can hold us to."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import resonant

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "resonant"
FILES = sorted(SOURCE.rglob("*.py"))
SHARED = {"errors", "files"}  # modules at the root that every room may use

# Which rooms a room may import from, besides itself and the shared modules.
ARROWS = {
    "functional": set(),
    "nn": {"functional"},
    "models": {"functional", "nn"},
    "data": set(),
    # The configs of data, models and training alone; modules of their own in files of their own.
    "experiments": {"data", "models", "nn", "training"},
    "training": {"data", "diagnostics", "experiments", "functional", "integrations", "models"},
    "diagnostics": {"functional", "nn"},
    "report": {"data", "diagnostics", "functional", "training"},
    "checks": {"nn"},
    "integrations": {"checks", "diagnostics", "functional", "models", "nn"},
    "benchmarks": {"functional", "models", "nn", "training"},
    "cli": {
        "benchmarks",
        "checks",
        "data",
        "diagnostics",
        "experiments",
        "integrations",
        "models",
        "nn",
        "report",
        "training",
    },
    "testing": {"checks", "functional", "nn"},
}


ABLATIONS = {"leaking_gate.py"}  # small modules used nowhere else, imported as plugins


def room(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, dotted from the package's root."""
    package = path.relative_to(SOURCE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {module} if module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resonant."):
            found.add((node.module or "").removeprefix("resonant."))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_arrows_between_rooms(path: Path) -> None:
    own = room(path)
    if own in SHARED | {"__init__"}:
        return
    for module in imports(path):
        other = module.split(".")[0]
        assert other == own or other in ARROWS[own] | SHARED, f"{own} imports {module}"
        if own == "experiments" and other in ("data", "models", "training"):
            assert module.split(".")[1] == "configs", f"experiments import {module}"
        if own == "experiments" and other == "nn":
            assert path.name in ABLATIONS, f"arms are data: {path.name} imports {module}"


def imported_files(path: Path, root: Path = SOURCE) -> set[Path]:
    """Files of the package that a file imports, inside functions too."""

    def file_of(parts: list[str]) -> Path | None:
        place = root.joinpath(*parts)
        found = [f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()]
        return found[0] if found and parts else None

    package, files = path.relative_to(root).parent.parts, set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        named = node.module.split(".") if node.module else []
        if node.level:
            named = [*package[: len(package) - node.level + 1], *named]
        elif named[0] == "resonant":
            named = named[1:]
        else:
            continue
        files |= {file_of([*named, alias.name]) or file_of(named) for alias in node.names}
    return {file for file in files if file not in (None, path)}  # type: ignore[misc]


def circles(root: Path) -> list[Path]:
    """Files that import themselves by way of others."""
    after = {path: imported_files(path, root) for path in root.rglob("*.py")}

    def reached(start: Path) -> set[Path]:
        open_, seen = [start], set()
        while open_:
            new = after.get(open_.pop(), set()) - seen
            seen |= new
            open_ += new
        return seen

    return sorted(path for path in after if path in reached(path))


def test_no_circle_among_files() -> None:
    """Rule 1, imports inside functions included."""
    assert circles(SOURCE) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("def call():\n    from .two import name\n")
    (tmp_path / "two.py").write_text("from resonant.one import call\n")
    (tmp_path / "three.py").write_text("from . import one\n")
    assert [path.name for path in circles(tmp_path)] == ["one.py", "two.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body
            if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                body = body[1:]
            lines = sum((s.end_lineno or 0) - s.lineno + 1 for s in body)
            assert lines <= 40, f"{path.name}: {node.name} has {lines} lines of code"
            positional = [a.arg for a in node.args.args if a.arg not in ("self", "cls")]
            assert len(positional) <= 4, f"{path.name}: {node.name} takes {positional}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_public_things_say_what_they_are(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), path
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def test_the_public_surface() -> None:
    assert resonant.__all__ == [
        "Band",
        "Causal",
        "Full",
        "Grid",
        "LanguageModel",
        "Lift",
        "PhaseLanguageModel",
        "PixelModel",
        "Scalar",
        "SpeechTransformer",
        "SwinTransformer",
        "VisionTransformer",
        "attend",
        "attention_weights",
        "clock",
        "clock_attention",
        "energy_gate",
        "energy_log_gate",
        "functional",
        "gaussian_locality",
        "generate",
        "integrations",
        "krause_attention",
        "kuramoto_coupling",
        "language_model",
        "morlet_encoding",
        "nn",
        "phase_language_model",
        "pixel_model",
        "register",
        "rotate",
        "sinusoidal_encoding",
        "softmax_attention",
        "speech_transformer",
        "swap",
        "swin_transformer",
        "testing",
        "unswap",
        "vision_transformer",
    ]
    for name in resonant.__all__:
        assert getattr(resonant, name) is not None
    assert dir(resonant) == resonant.__all__
    with pytest.raises(AttributeError, match="no attribute 'krause'"):
        resonant.krause  # noqa: B018


def test_importing_changes_nothing_and_costs_little() -> None:
    code = """
import time, warnings, logging, random, os
import torch, numpy
filters, handlers = list(warnings.filters), list(logging.getLogger().handlers)
threads, dtype, state = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
drawn, environment = random.getstate(), dict(os.environ)
start = time.process_time()
import resonant
for name in resonant.__all__:
    getattr(resonant, name)
spent = time.process_time() - start
assert spent < 0.3, spent
assert warnings.filters == filters and logging.getLogger().handlers == handlers
assert torch.get_num_threads() == threads and torch.get_default_dtype() == dtype
assert torch.equal(torch.get_rng_state(), state) and random.getstate() == drawn
assert dict(os.environ) == environment
import sys
heavy = {"lightning", "transformers", "peft", "matplotlib", "scipy", "jsonargparse", "rich"}
assert heavy.isdisjoint(sys.modules), heavy & set(sys.modules)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
