"""Odd numbers, terminals, interpreters and moments: a sentence, or right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from resonant import LanguageModel
from resonant.cli.main import main
from resonant.files import write_atomically
from resonant.lab.adapters.bases import base_model, subwords
from resonant.lab.adapters.model_config import Base
from resonant.models.language_configs import LanguageModelConfig

from ..lab.running import TINY, compare, resonant, write_text

TEXT = "What is the number? It is one, two, three or four.\n" * 50


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    LanguageModel(LanguageModelConfig(layers=1, width=16, heads=2, hidden=16)).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of transformers with its tokenizer."""
    folder = tmp_path_factory.mktemp("theirs")
    sizes = {"layers": 1, "width": 16, "heads": 2, "key_value_heads": 1, "hidden": 16}
    base_model(Base("llama", vocabulary=300, **sizes)).save_pretrained(folder)
    subwords(TEXT, 300).save_pretrained(folder)
    assert transformers.AutoConfig.from_pretrained(folder).model_type == "llama"
    return folder


ODD = [
    ("--temperature=-1", "temperature must be at least 0"),
    ("--temperature=nan", "temperature must be at least 0"),
    ("--temperature=inf", "temperature must be at least 0"),
    ("--top-k=-3", "top_k counts the tokens to keep, so it is at least 1; it is -3"),
    ("--top-k=0", "top_k counts the tokens to keep"),
    ("--top-p=0", "top_p is a probability in (0, 1]"),
    ("--top-p=1.5", "top_p is a probability in (0, 1]"),
    ("--tokens=-1", "--tokens must be at least 0; it is -1"),
    ("--samples=0", "--samples must be at least 1; it is 0"),
    ("--samples=1000000000", "--samples is at most 1,000; it is 1,000,000,000"),
    ("--seed=-1", "--seed is a whole number from 0 to 2^63 - 1; it is -1"),
    ("--seed=99999999999999999999", "--seed is a whole number from 0"),
    ("--context=1", "--context must be at least 2; it is 1"),
]


@pytest.mark.parametrize("model", ["ours", "theirs"])
@pytest.mark.parametrize(("option", "says"), ODD)
def test_odd_numbers_of_sample(
    model: str,
    option: str,
    says: str,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = request.getfixturevalue(model)
    assert main(["sample", str(folder), "--prompt=It", "--tokens=2", option]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("resonant: ")
    assert says in said


@pytest.mark.parametrize("model", ["ours", "theirs"])
def test_no_tokens_are_the_prompt_alone(
    model: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = request.getfixturevalue(model)
    given = ["sample", str(folder), "--prompt=It is", "--tokens=0", "--samples=2"]
    assert main(given) == 0
    assert capsys.readouterr().out == "It is\n---\nIt is\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["compare", "stdlib", "--seeds=1000000000000"],
            "--seeds must be at least 1, at most 1000",
        ),
        (["compare", "stdlib", "--seeds=0"], "--seeds must be at least 1"),
        (["compare", "stdlib", "--workers=100000000"], "--workers must be at least 1, at most 256"),
        (["compare", "stdlib", "--arms="], "stdlib has no arm ''"),
        (["compare", "stdlib", "--arms", ","], "stdlib has no arm ''"),
        (["train", "stdlib", "--arm=softmax", "--seed=-1"], "--seed is a whole number from 0"),
        (["check", "resonant:language_model", "--seed=-2"], "--seed is a whole number from 0"),
        (["collapse", "--seed=-2"], "--seed is a whole number from 0"),
    ],
)
def test_odd_numbers_elsewhere(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [f"--out={tmp_path / 'out'}"]
    assert main([*arguments, *out]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["compare", "train"])
def test_help_without_an_experiment_names_them(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: resonant {command} [EXPERIMENT]")
    assert f"resonant {command} EXPERIMENT --help" in said
    for name in ("stdlib", "speech", "digits", "images", "llama-lora"):
        assert f"  {name} " in said
    assert "--model." not in said


def run(
    *arguments: str, interpreter: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *interpreter, "-m", "resonant.cli.main", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
        timeout=240,
    )


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "COLUMNS": "200"}


@pytest.mark.slow
def test_a_terminal_of_ascii_and_an_interpreter_without_docstrings(tmp_path: Path) -> None:
    text, out = write_text(tmp_path), tmp_path / "out"
    source = [f"--data.path={text}", "--data.name=file", f"--out={out}"]
    given = ["compare", "stdlib", *source, *TINY]
    made = run(*given, interpreter=("-OO",), **ASCII)
    assert made.returncode == 0, made.stderr
    assert "test loss" in made.stdout
    folder = str(out / "krause-window-topk-seed0")
    for arguments in (
        ["report", str(out)],
        ["sample", folder, "--tokens=40", "--prompt=\N{GREEK SMALL LETTER ALPHA}"],
        ["diagnose", folder, "--text=What nearby tokens say"],
        ["check", folder, "--checks=causality", "--length=13"],
        ["list"],
        ["list", "stdlib"],
        ["list", "vision_transformer"],
        ["explain", "krause-window"],
        ["compare", "stdlib", "--help"],
    ):
        for interpreter in ((), ("-OO",)):
            done = run(*arguments, interpreter=interpreter, **ASCII)
            assert done.returncode == 0, (arguments, done.stderr)
            assert done.stdout.isascii()
            assert "Traceback" not in done.stderr
    code = "import resonant.testing as t; t.check_mechanism('krause')"
    refused = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False
    )
    assert "laws are assertions, which python -O takes away" in refused.stderr


@pytest.mark.slow
def test_a_module_of_the_standard_library_s_name_lies_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("random", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger runs')\n")
    text = write_text(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = Path(sys.executable).with_name("resonant")
    source = [f"--data.path={text}", "--data.name=file", "--out=out"]
    made = subprocess.run(
        [str(command), "compare", "stdlib", *source, *TINY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "a stranger runs" not in made.stdout + made.stderr


@pytest.mark.slow
def test_reports_at_once_and_a_single_run_into_a_comparison(tmp_path: Path) -> None:
    text, out = write_text(tmp_path), tmp_path / "out"
    assert compare(text, out, "--seeds=2").returncode == 0
    command = [sys.executable, "-m", "resonant.cli.main", "report", str(out)]
    for _ in range(2):
        at_once = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        for each in at_once:
            _, errors = each.communicate()
            assert each.returncode == 0, errors
    assert not list(out.rglob("*.partial"))
    before = (out / "comparison.json").read_bytes()
    single = resonant("train", "stdlib", "--arm=softmax", "--training.steps=2", f"--out={out}")
    assert single.returncode == 2
    assert "holds a comparison of 2 runs, whose description a single run would" in single.stderr
    assert (out / "comparison.json").read_bytes() == before
    assert len(json.loads(before)["runs"]) == 2


def test_two_may_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a temporary file of its own; those that were abandoned go, those at work stay."""
    path = tmp_path / "[a].json"
    names = []
    monkeypatch.setattr(os, "fsync", lambda _: names.extend(tmp_path.glob(".*.partial")))
    write_atomically(path, b"{}", "config")
    (own,) = names
    monkeypatch.undo()
    host = own.name.removesuffix(f"-{os.getpid()}.partial")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    killed, at_work = (tmp_path / f"{host}-{pid}.partial" for pid in (ended.pid, os.getppid()))
    elsewhere, old = (tmp_path / f".[a].json.other-{pid}.partial" for pid in (1, 2))
    for each in (killed, at_work, elsewhere, old):
        each.write_text("half")
    os.utime(old, (0, 0))
    write_atomically(path, b"[]", "config")
    assert path.read_bytes() == b"[]"
    assert [each.exists() for each in (killed, at_work, elsewhere, old)] == [
        False,
        True,
        True,
        False,
    ]
