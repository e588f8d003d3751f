"""`resonant diagnose`: numbers and pictures of a phase model, and what it refuses."""

import json
from pathlib import Path

import pytest

import resonant
from resonant.cli.main import main
from resonant.lab.text.tokens import Tokenizer

from ..lab.running import FINISHED


def saved(model: resonant.PhaseLanguageModel | resonant.LanguageModel, where: Path) -> Path:
    model.save_pretrained(where)
    Tokenizer().save(where)
    (where / "done.json").write_text(
        json.dumps(FINISHED | {"prompt": "def go(x):\n\treturn $x <b>"})
    )
    return where


@pytest.mark.parametrize("manifold", ["circle", "sphere-4"])
def test_a_run_of_phases(manifold: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(resonant.phase_language_model("0.11M", manifold=manifold), tmp_path / "run")
    assert main(["diagnose", str(run)]) == 0
    said = capsys.readouterr().out
    assert "into layer 1" in said
    assert "at the end" in said
    page = (run / "diagnosis.html").read_text()
    assert page.count("<svg") == (5 if manifold == "circle" else 4)
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    for outside in ("src=", "<script", '<link rel="stylesheet', "url(http", "@import"):
        assert outside not in page


def test_one_s_own_text_and_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(resonant.phase_language_model("0.11M"), tmp_path / "run")
    out = tmp_path / "elsewhere"
    assert main(["diagnose", str(run), "--text", "ab", "--out", str(out)]) == 0
    assert (out / "diagnosis.html").is_file()
    assert not (run / "diagnosis.html").exists()
    for text, says in (("a", "the text has 1 tokens; give 2 to 2000"), ("a" * 2001, "2001 tokens")):
        assert main(["diagnose", str(run), "--text", text]) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("here", [".", "./", "../run", "../run/."])
def test_a_run_by_any_name_of_its_folder(
    here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(resonant.language_model("0.11M"), tmp_path / "run")
    monkeypatch.chdir(run)
    assert main(["diagnose", here]) == 0
    assert "layer" in capsys.readouterr().out
    assert "<title>run" in (run / "diagnosis.html").read_text()


def test_a_run_without_phases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(resonant.language_model("0.11M"), tmp_path / "run")
    assert main(["diagnose", str(run)]) == 0
    assert "order R" not in capsys.readouterr().out
    page = (run / "diagnosis.html").read_text()
    assert "Where attention looks" in page
    assert "Phases" not in page
    assert page.count("<svg") == 2


def test_what_cannot_be_diagnosed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(resonant.language_model("0.11M"), tmp_path / "run")
    (run / "done.json").unlink()
    assert main(["diagnose", str(run)]) == 2
    assert "give --text" in capsys.readouterr().err
    assert main(["diagnose", str(tmp_path / "nowhere")]) == 2
    assert "give the folder of a finished run" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["diagnose", "sample"])
def test_models_of_made_up_ids_read_no_text(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(resonant.language_model("0.11M", vocabulary=96), tmp_path / "run")
    option = "--text" if command == "diagnose" else "--prompt"
    assert main([command, str(run), option, "hello"]) == 2
    assert "made-up ids, which reads and writes no text" in capsys.readouterr().err
