"""A wheel in a clean environment: every command works, or names the extra that it needs."""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from resonant import LanguageModel, __version__, pixel_model, speech_transformer
from resonant.cli.main import EXTRA_OF, commands
from resonant.lab.speech.config import SCALES
from resonant.models.language_configs import LanguageModelConfig

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# By what name a package is installed, where it is another than that it is imported by.
INSTALLED = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "espeakng_loader": "espeakng-loader",
    "tokenizers": "transformers",
    "huggingface_hub": "transformers",
}


def names(requirements: list[str]) -> set[str]:
    return {Requirement(each).name.lower() for each in requirements}


def test_every_package_of_an_extra_is_known_by_it() -> None:
    """And none that is imported anywhere is of no extra."""
    extras = PROJECT["optional-dependencies"]
    brought = {extra: names(extras[extra]) - {"resonant"} for extra in set(EXTRA_OF.values())}
    for package, extra in EXTRA_OF.items():
        assert INSTALLED.get(package, package) in brought[extra], package
    told = {INSTALLED.get(package, package) for package in EXTRA_OF}
    assert set.union(*brought.values()) <= told
    core = names(PROJECT["dependencies"])
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    imported = {
        m.partition(".")[0] for m in re.findall(r"^\s*(?:import|from) (\w[\w.]*)", source, re.M)
    }
    ours = imported - set(sys.stdlib_module_names) - {"resonant"} - core - EXTRA_OF.keys()
    assert ours <= {"a", "the", "torch"}, ours  # words that begin a line of a docstring


def required(packages: set[str]) -> Iterator[importlib.metadata.Distribution]:
    """The packages and what they require, as they are installed here."""
    seen: set[str] = set()
    waiting = [*packages]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        found = importlib.metadata.distribution(name)
        yield found
        for each in map(Requirement, found.requires or ()):
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                waiting.append(each.name)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with our wheel and what it requires, linked from here."""
    folder = tmp_path_factory.mktemp("clean")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    copy = folder / "source"
    for part in ("pyproject.toml", "README.md", "LICENSE", "src"):
        path = ROOT / part
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(path, copy / part, ignore=ignored)
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(path, copy / part)
    built = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(copy)]
    subprocess.run([*pip, *built], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    site = next((folder / "env").glob("lib/python*/site-packages"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    for package in required(names(PROJECT["dependencies"])):
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            here, there = Path(str(package.locate_file(top))), site / top
            if here.exists() and not there.exists():
                there.symlink_to(here)
    return folder / "env" / "bin" / "python"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    config = LanguageModelConfig(layers=1, width=16, heads=2, hidden=16)
    LanguageModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pixels")
    pixel_model("small", layers=1).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("speech")
    speech_transformer("small", layers=1).save_pretrained(folder)
    scales = {"voices": ["en-us"], "symbols": ["b"], "mean": [0.0], "spread": [1.0], "hop": 256}
    (folder / SCALES).write_text(json.dumps(scales))
    return str(folder)


NEEDS = r"resonant: .* pip install 'resonant\[(lab|vision|speech|llm|smollm)\]'"
WORKING = {
    "check": ["MODEL", "--checks=causality"],
    "sample": ["MODEL", "--tokens=4"],
    "explain": ["krause-window"],
    "list": ["stdlib"],
}
OTHERS = {
    "bench": [],
    "collapse": [],
    "compare": ["digits"],
    "diagnose": ["MODEL", "--text=to be"],
    "draw": ["PIXELS", "--count=1"],
    "pack": ["MODEL", "x.zip"],
    "predict": ["MODEL", "x.png"],
    "report": ["MODEL"],
    "sinks": ["MODEL"],
    "speak": ["SPEECH", "to be"],
    "train": ["stdlib"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({*WORKING, *OTHERS}))
def test_every_command_works_or_names_its_extra(
    command: str, clean: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    given = [
        request.getfixturevalue(each.lower()) if each in ("MODEL", "PIXELS", "SPEECH") else each
        for each in (WORKING | OTHERS)[command]
    ]
    done = subprocess.run(
        [str(clean), "-m", "resonant.cli.main", command, *given],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "Traceback" not in done.stderr
    if command in WORKING:
        assert done.returncode == 0, done.stderr
        assert done.stdout
    else:
        assert done.returncode == 2, done.stderr
        assert re.search(NEEDS, done.stderr), done.stderr


def test_every_command_is_tried() -> None:
    assert {*WORKING, *OTHERS} == commands().keys()


@pytest.mark.slow
def test_the_library_needs_no_extra(clean: Path, tmp_path: Path) -> None:
    code = """
import torch, resonant, resonant.diagnostics, resonant.testing
tokens = torch.zeros(1, 8, dtype=torch.long)
model = resonant.language_model("0.11M")
model.save_pretrained("model")
assert resonant.generate(resonant.load_model("model"), tokens, 4).shape == (1, 12)
assert len(resonant.diagnostics.record_attention(model, tokens).layers) == len(model.blocks)
resonant.testing.assert_causal(model)
for build in ("vision_transformer", "swin_transformer", "speech_transformer", "pixel_model"):
    getattr(resonant, build)("small")
resonant.swap(torch.nn.TransformerEncoderLayer(16, 2), "krause")
print(resonant.__version__, *sorted(resonant.diagnostics.summarize(model, tokens)))
"""
    done = subprocess.run(
        [str(clean), "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{__version__} ")


@pytest.mark.slow
def test_the_wheel_has_what_pages_are_made_of(clean: Path) -> None:
    site = next(clean.parents[1].glob("lib/python*/site-packages/resonant"))
    theirs = {p.relative_to(site) for p in site.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    source = ROOT / "src" / "resonant"
    ours = {p.relative_to(source) for p in source.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert theirs == ours
    done = subprocess.run(
        [str(clean), "-m", "resonant.cli.main", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"resonant {__version__}\n"
