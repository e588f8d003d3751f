"""`resonant explain`: pages whose code is where they say it is; bench and collapse as commands."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resonant.benchmarks import rows
from resonant.cli.explain import line_of
from resonant.cli.explanations import EXPLANATIONS, TERMS
from resonant.cli.main import main
from resonant.functional import mechanisms

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_a_page_points_at_the_code(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == 0
    said = capsys.readouterr().out
    about = EXPLANATIONS[name]
    assert about.says in said
    for _, file, thing in about.code:
        module = importlib.import_module("resonant." + file.removesuffix(".py").replace("/", "."))
        lines, start = inspect.getsourcelines(getattr(module, thing))
        decorators = next(i for i, line in enumerate(lines) if not line.startswith("@"))
        assert line_of(file, thing) == start + decorators
        assert f"src/resonant/{file}:{line_of(file, thing)}" in said
    assert (ROOT / about.page).is_file()
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("name", ["Krause", "KRAUSE", " krause "])
def test_names_are_found_as_they_are_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", name]) == 0
    assert capsys.readouterr().out.startswith("krause: ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("krause-window", "krause: Bounded confidence"),
        ("softmax-gate", "is an arm of stdlib: "),
        ("next-clock", "clock: "),
        ("krause-grid-topk", "is an arm of images: "),
    ],
)
def test_arms_are_explained_with_their_mechanism(
    name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", name]) == 0
    said = capsys.readouterr().out
    assert f"{name} is an arm of " in said
    assert says in said
    assert main(["list", name]) == 0
    assert f"arm {name} (resonant compare EXPERIMENT" in capsys.readouterr().out


def test_what_cannot_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "stdlib"]) == 2
    assert "'stdlib' is no mechanism; see `resonant list stdlib`" in capsys.readouterr().err
    assert main(["explain", "krause-windw"]) == 2
    assert "did you mean 'krause-window'" in capsys.readouterr().err


def test_every_mechanism_has_a_page() -> None:
    ours = {n for n, m in mechanisms().items() if m.lift.__module__.startswith("resonant.")}
    assert ours - {"softmax-sink"} <= set(EXPLANATIONS)


def test_words_and_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*EXPLANATIONS, *TERMS))
    assert main(["explain", "sink", "krause"]) == 0
    assert "sink: mean weight" in capsys.readouterr().out
    assert main(["explain", "krauss"]) == 2
    assert "did you mean 'krause'" in capsys.readouterr().err


def test_explaining_needs_no_torch_and_no_second() -> None:
    code = "import sys; from resonant.cli.main import main; main(['explain', 'krause']); "
    code += "assert 'torch' not in sys.modules"
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = os.times()
    assert 0.0 < after.children_user - before.children_user < 1.0


def test_bench_writes_json_and_says_what_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rows, "measure", lambda row: row.limit * (0.1 if row.memory else 1.1))
    target = tmp_path / "bench.json"
    assert main(["bench", "krause", "materialized", "--json", str(target)]) == 1
    said = json.loads(target.read_text())
    assert [row["of"] for row in said["rows"]] == ["CPU time", "peak memory"]
    assert [row["verdict"] for row in said["rows"]] == ["MISSED", "aim met"]
    assert said["threads"] == 2
    assert said["torch"]
    assert "MISSED" in capsys.readouterr().out
    monkeypatch.setattr(rows, "measure", lambda row: row.limit * 0.999)
    assert main(["bench", "decode", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["verdict"] == "met"


def test_bench_names_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows.ROWS)
    assert main(["bench", "nonsense"]) == 2
    assert "no row has all of nonsense" in capsys.readouterr().err


@pytest.mark.slow
def test_collapse_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["collapse", "--out", str(out), "--particles", "24", "--markdown"]) == 0
    assert "| kuramoto |" in capsys.readouterr().out
    strip = (out / "collapse.svg").read_text()
    assert strip.count("<image") == 25
    assert "1 cluster (" in strip
    assert (out / "collapse-curves.svg").is_file()
    assert main(["collapse", "--out", str(out / "collapse.svg")]) == 2
    assert "--out takes a folder" in capsys.readouterr().err
    assert main(["collapse", "--particles", "1"]) == 2
    assert "at least 2" in capsys.readouterr().err
