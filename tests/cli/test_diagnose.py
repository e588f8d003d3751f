"""`resonant diagnose`: numbers and pictures of a phase model, and what it refuses."""

import json
from pathlib import Path

import pytest

import resonant
from resonant.cli.main import main
from resonant.lab.text.tokens import Tokenizer

from ..lab.running import FINISHED, compare, write_text
from ..lab.running import resonant as command


def saved(model: resonant.PhaseLanguageModel | resonant.LanguageModel, where: Path) -> Path:
    model.save_pretrained(where)
    Tokenizer().save(where)
    (where / "done.json").write_text(
        json.dumps(FINISHED | {"prompt": "def go(x):\n\treturn $x <b>"})
    )
    return where


@pytest.mark.parametrize("manifold", ["circle", "sphere-4"])
def test_a_run_of_phases(manifold: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"manifold": manifold, "embedding_start": "normal"}
    run = saved(resonant.phase_language_model("0.11M", **options), tmp_path / "run")
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


@pytest.mark.slow
def test_what_attention_is_worth_of_runs_of_two_domains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = compare(write_text(tmp_path), tmp_path / "text")
    assert done.returncode in (0, 1), done.stderr  # it misses the demo's ceiling
    run = str(tmp_path / "text" / "krause-window-topk-seed0")
    assert main(["diagnose", run, "--worth"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "blocks.0.attention" in said
    assert "Validation loss" in said
    assert "What attention is worth" in Path(run, "diagnosis.html").read_text()
    tiny = ["--arms=next-clock-tempo", "--seeds=1", "--workers=1", "--training.steps=2"]
    tiny += ["--training.evaluate_every=2", "--training.warmup=1", "--data.longest=13"]
    done = command("compare", "align", f"--out={tmp_path / 'align'}", *tiny, "--no-probe")
    assert done.returncode == 0, done.stderr
    assert main(["diagnose", str(tmp_path / "align" / "next-clock-tempo-seed0"), "--worth"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "blocks.0.cross" in said
    assert "encoder.0.attention" in said


def test_worth_needs_the_run_of_a_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = saved(resonant.language_model("0.11M"), tmp_path / "run")
    assert main(["diagnose", str(run), "--worth"]) == 2
    assert "has no configuration: --worth needs the data of a run" in capsys.readouterr().err
    assert main(["diagnose", "resonant:language_model", "--worth"]) == 2
    assert "--worth is not for resonant:language_model" in capsys.readouterr().err
    assert main(["diagnose", str(run), "--data-dir", "."]) == 2
    assert "which reads no data without --worth" in capsys.readouterr().err
