"""`resonant compare MODULE:NAME` and `resonant diagnose MODULE:NAME`, as a user types them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resonant.cli.main import main

ROOT = Path(__file__).parent.parent.parent
MINE = "tests.lab.own.mine:experiment"


def test_a_comparison_from_a_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = [f"--out={out}", "--workers=0", "--seeds=4", "--config.noise=0.01"]
    assert main(["compare", MINE, "--arms=zero,two", *options]) == 0
    said = capsys.readouterr().out
    assert "Means over seeds 0, 1, 2, 3" in said
    assert "one" not in {line.split()[3] for line in said.splitlines() if line.startswith("│")}
    assert f"report: {out}/report.html" in said
    assert json.loads((out / "two-seed3" / "run.json").read_text())["stands_on"]["config"] == {
        "noise": 0.01,
        "steps": 4,
    }
    assert main(["compare", MINE, "--arms=zero,two", *options[:3]]) == 2
    said = capsys.readouterr().err
    assert "config.noise was 0.01, is 0.1" in said
    assert "--overwrite" in said
    assert main(["compare", MINE, "--arms=zero,two", "--overwrite", *options[:3]]) == 0


def test_report_and_pack_know_such_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compare", MINE, f"--out={out}", "--workers=0"]) == 0
    page = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    capsys.readouterr()
    assert main(["report", str(out)]) == 0
    assert "smallest detectable" in capsys.readouterr().out
    assert (out / "report.html").read_bytes() == page
    assert main(["report", str(out), "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| metric | arm | mean |")
    assert main(["report", str(out), "--figures", str(tmp_path / "figures")]) == 0
    assert (tmp_path / "figures" / "difference-mse.svg").read_text().startswith("<svg")
    assert main(["pack", str(out), str(tmp_path / "x.zip")]) == 2
    assert "holds a comparison of one's own function" in capsys.readouterr().err


def test_its_help_names_arms_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", MINE, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for part in ("values under noise; arms: zero, one, two; control: zero", "--config.noise NOISE"):
        assert part in said
    assert "deviation of the scores (type: float, default: 0.1)" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([MINE, "--config.nois=1"], "no option is called --config.nois; did you mean"),
        ([MINE, "--config.noise=loud"], "--config.noise takes float, not 'loud'"),
        ([MINE, "--config=1"], "no option is called --config;"),
        ([MINE, "--arms=zer"], "there is no arm 'zer'; did you mean 'zero'"),
        ([MINE, "--seeds=0"], "seeds are how many"),
        ([MINE, "--workers=-2"], "workers are 0 to 256"),
        (["tests.lab.own.mine:nothing"], "is a int; `resonant compare MODULE:NAME` runs a"),
        (["tests.lab.own.mine:experimen"], "has no 'experimen'; did you mean 'experiment'"),
        (["tests.lab.own.min:experiment"], "cannot import 'tests.lab.own.min'"),
        (["nowhere.py:experiment"], "there is no file nowhere.py"),
        ([":experiment"], "names no model"),
        (
            ["tests.lab.problem.problems:experiment", "--training.sample_tokens=3"],
            "training.sample_tokens is not read by a Problem",
        ),
    ],
)
def test_what_is_mistyped_is_said(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *words, f"--out={tmp_path}"]) == 2
    assert says in capsys.readouterr().err


def test_a_failed_run_is_status_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "failing.py").write_text(
        "from resonant.lab import Comparison\n"
        "from tests.lab.own.mine import odd\n"
        "experiment = Comparison({'fine': 'fine', 'nan': 'nan'}, odd)\n"
    )
    where = f"{tmp_path}/failing.py:experiment"
    assert main(["compare", where, f"--out={tmp_path}/out", "--workers=0"]) == 1
    assert "FAILED: nan-seed0 returns mse = nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("example", "options"),
    [
        ("time_series", ["--config.steps=3", "--config.window=8"]),
        (
            "tokens",
            [
                *("--training.steps=3", "--training.context=16", "--training.warmup=1"),
                "--no-probe",
            ],
        ),
    ],
)
def test_the_examples_in_small(
    example: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "examples" / f"{example}.py", tmp_path / f"small_{example}.py")
    name = f"{tmp_path}/small_{example}.py:experiment"
    words = [name, *options, "--seeds=1", "--workers=0", f"--out={tmp_path}/out"]
    assert main(["compare", *words]) == 0
    assert "too few seeds" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("example", ["time_series", "tokens"])
def test_the_examples_as_they_are(example: str, tmp_path: Path) -> None:
    """As the docs say, a minute each; started again, nothing is trained anew."""
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py")]
    for _ in range(2):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280
        )
        assert done.returncode == 0, done.stderr
    name = example.replace("_", "-")
    assert f"page: runs/{name}/report.html" in done.stdout
    assert "kept" in done.stdout
    assert "running" not in done.stdout
    assert (tmp_path / "runs" / name / "report.html").is_file()


MODEL = """
import torch
def pair():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.ones(2, 6, 16)
def alone():
    return pair()[0]
def without():
    return torch.nn.Linear(3, 3), torch.ones(2, 4, 3)
"""


def test_diagnose_takes_what_check_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "looked_at.py").write_text(MODEL)
    for name, options, tokens in (("pair", [], 6), ("alone", ["--length=9"], 9)):
        assert main(["diagnose", f"looked_at.py:{name}", *options]) == 0
        assert "pictures: diagnosis/diagnosis.html" in capsys.readouterr().out
        page = (tmp_path / "diagnosis" / "diagnosis.html").read_text()
        assert f"<title>looked_at.py:{name}" in page
        assert f" {tokens - 1}" in page
        assert "<svg" in page
    assert main(["diagnose", "looked_at.py:without"]) == 2
    assert "has no attention that could be recorded" in capsys.readouterr().err
    assert main(["diagnose", "looked_at.py:pair", "--text=abc"]) == 2
    assert "--text is not for looked_at.py:pair" in capsys.readouterr().err
    assert torch.is_grad_enabled()
