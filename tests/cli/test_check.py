"""`resonant check` and `resonant sample` as a user runs them."""

import json
from pathlib import Path

import pytest

from resonant.cli.main import main
from resonant.lab.text.tokens import Tokenizer
from tests.checks import models

HERE = Path(models.__file__)


@pytest.mark.parametrize(
    ("name", "status", "lines"),
    [
        ("MaskedEncoder", 0, ["causality  holds", "padding    holds", "cache      not checked"]),
        ("encoder", 1, ["causality  FAILS", "layers.0.self_attn", "padding    holds"]),
        ("leaking", 1, ["causality  FAILS", "blocks.0.attention.gate"]),
        ("with_inputs", 0, ["features (2, 29, 16)"]),
    ],
)
def test_certificates(
    name: str, status: int, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for where in ("tests.checks.models", str(HERE)):
        assert main(["check", f"{where}:{name}"]) == status
        printed = capsys.readouterr().out
        for line in lines:
            assert line in printed


def test_options_reach_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "certificate.json"
    arguments = ["check", "tests.checks.models:Recurrent", "--layout=sequence-first", "--length=11"]
    assert main([*arguments, "--width=16", "--checks=causality", f"--out={out}"]) == 0
    assert "features (11, 3, 16)" in capsys.readouterr().out
    certificate = json.loads(out.read_text())
    assert [v["status"] for v in certificate["verdicts"]] == ["holds"]
    assert main(["check", "tests.checks.models:Peeking", "--tolerance=0.1"]) == 0


def test_a_folder_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.ours().save_pretrained(tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    assert "cache      holds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["tests.checks.models:our"], "has no 'our'; did you mean 'ours'"),
        (["tests.checks.models:NOT_A_MODEL"], "is a int, neither a model nor a function"),
        (["tests.checks.models:WIDTH"], "neither a model nor a function"),
        (["tests.checks.modles:ours"], "cannot import 'tests.checks.modles'"),
        (["no/such/file.py:ours"], "there is no file no/such/file.py"),
        (["ours"], "names no model; give package.module:name"),
        (["tests.checks.models:ours", "--checks=casuality"], "did you mean 'causality'"),
        (
            ["tests.checks.models:ours", "--width=7"],
            "see --vocabulary, --width, --length",
        ),
        (["tests.checks.models:ours", "--length=2"], "--length is too small: 2"),
        (["tests.checks.models:with_inputs", "--length=9"], "brings its own"),
        (["tests.checks.models:encoder", "--tolerance=nan"], "tolerance is a number from 0 on"),
        (["tests.checks.models:Masked", "--mask-argument=nosuch"], "forward has no argument"),
        (["tests.checks.broken:raising"], "importing 'tests.checks.broken' raises RuntimeError"),
        (["tests.checks.models:raising"], "building tests.checks.models:raising raises KeyError"),
        (["tests.checks.models:uncallable"], "cannot be called with inputs of shape (2, 9, 7)"),
        (["tests.checks.models:difference"], "cannot be called without arguments"),
        (["src"], "src holds no config.json"),
        (["tests.checks.models:ours", "--plugins=absent"], "cannot import the plugin 'absent'"),
    ],
)
def test_mistakes_say_what_to_do(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *arguments]) == 2
    assert why in capsys.readouterr().err


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    models.ours().save_pretrained(tmp_path)
    Tokenizer.of("abc defg\n").save(tmp_path)
    (tmp_path / "config.yaml").write_text("data: {name: stdlib}\ntraining: {context: 16}\n")
    return tmp_path


def test_sample_repeats_and_shows_the_prompt(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for seed in (1, 1, 2):
        arguments = ["--prompt=bad", f"--seed={seed}", "--tokens=40"]
        assert main(["sample", str(trained), *arguments]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("bad")
    assert len(texts[0]) == 3 + 40 + 1
    main(["sample", str(trained), "--samples=3", "--tokens=5", "--temperature=0"])
    assert capsys.readouterr().out.count("---") == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--prompt="], "the prompt has 0 characters"),
        (["--temperature=-1"], "temperature must be at least 0"),
        (["--top-p=2"], "top_p is a probability"),
        (["--tokens=-3"], "--tokens must be at least 0; it is -3"),
        (["--samples=0"], "--samples must be at least 1; it is 0"),
        (["--context=0"], "--context must be at least 2; it is 0"),
    ],
)
def test_mistakes_in_sampling(
    trained: Path, arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(trained), *arguments]) == 2
    assert why in capsys.readouterr().err


def test_no_model_to_sample_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(tmp_path)]) == 2
    assert (
        "holds no model.safetensors; give the folder of a finished run" in capsys.readouterr().err
    )


def test_a_folder_half_written(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "config.yaml").write_text("")
    assert main(["sample", str(trained), "--tokens=3"]) == 2
    assert "config.yaml is damaged" in capsys.readouterr().err
    (trained / "config.yaml").unlink()
    assert main(["sample", str(trained), "--tokens=3"]) == 0
    (trained / "config.json").write_text("{ no")
    assert main(["sample", str(trained)]) == 2
    assert "config.json is damaged" in capsys.readouterr().err
    (trained / "config.json").unlink()
    assert main(["sample", str(trained)]) == 2
    assert "holds no config.json; give a folder written by save" in capsys.readouterr().err
