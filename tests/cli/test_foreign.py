"""check, diagnose and sample on models of transformers, with and without adapters."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.integrations import add_krause_branch, lora_config, save_branch, use_attention
from resonant.integrations.opening import open_causal
from resonant.lab.adapters.bases import base_model, check_base, digest_of_files, subwords
from resonant.lab.adapters.model_config import Base
from resonant.lab.domains import EXPERIMENTS
from resonant.lab.kit.config import config_hash

SMALL = Base("llama", layers=2, width=16, heads=2, key_value_heads=1, hidden=16, vocabulary=300)
TEXT = "What is the number? It is one, two, three or four."


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    base_model(SMALL).save_pretrained(folder)
    subwords(TEXT * 50, SMALL.vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapted(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapted")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(pretrained)
    add_krause_branch(model, window=6, top_k=4, start="mix")
    save_branch(peft.get_peft_model(model, lora_config(model)), folder)
    return folder


@pytest.fixture(params=["pretrained", pytest.param("adapted", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_check_certifies_them(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", folder]) == 0
    printed = capsys.readouterr()
    assert [line.split()[:2] for line in printed.out.splitlines() if "holds" in line] == [
        ["causality", "holds"],
        ["padding", "holds"],
        ["cache", "holds"],
    ]
    assert "Loading weights" not in printed.err


@pytest.mark.parametrize("adapter", [False, True])
def test_what_was_set_up_is_there_when_a_folder_is_opened(
    adapter: bool, pretrained: Path, tmp_path: Path
) -> None:
    """Not a softmax model of the same weights, without a word."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(pretrained)
    use_attention(model, "krause", sigma=0.5)
    if adapter:
        model = peft.get_peft_model(model, lora_config(model))
    model.save_pretrained(str(tmp_path))
    subwords(TEXT * 50, SMALL.vocabulary).save_pretrained(tmp_path)
    opened, _ = open_causal(tmp_path)
    tokens = torch.arange(8)[None]
    assert torch.equal(opened(tokens).logits, model.eval()(tokens).logits)
    plain = transformers.AutoModelForCausalLM.from_pretrained(pretrained)
    assert (opened(tokens).logits - plain(tokens).logits).abs().max() > 1e-3


def test_diagnose_draws_them(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", folder, "--text", TEXT, "--out", str(tmp_path)]) == 0
    assert "sink" in capsys.readouterr().out
    assert "What is" in (tmp_path / "diagnosis.html").read_text()


def test_diagnose_asks_for_the_branch(
    pretrained: Path, adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--of", "branch", "--text", TEXT, "--out", str(tmp_path)]
    assert main(["diagnose", str(adapted), *given]) == 0
    capsys.readouterr()
    assert main(["diagnose", str(pretrained), *given]) == 2
    assert "has no branch" in capsys.readouterr().err
    assert main(["diagnose", str(pretrained), "--text", "", "--out", str(tmp_path)]) == 2
    assert "give 2 to 2000" in capsys.readouterr().err


def test_sample_draws_from_them(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["sample", folder, "--prompt", "It is", "--tokens", "5"]
    drawn = []
    for more in (["--seed", "1"], ["--seed", "1"], ["--samples", "2", "--temperature", "0"]):
        assert main([*options, *more]) == 0
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1]
    first, second = drawn[2].rstrip("\n").split("\n---\n")
    assert first == second
    assert first.startswith("It is")


def test_what_cannot_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert main(["check", str(tmp_path)]) == 2
    assert "cannot be opened by transformers" in capsys.readouterr().err
    model = base_model(SMALL)
    add_krause_branch(model)
    save_branch(model, tmp_path / "branch")
    assert main(["check", str(tmp_path / "branch")]) == 2
    assert "holds a branch and not the model it is of" in capsys.readouterr().err
    assert torch.get_default_dtype() == torch.float32


def test_files_of_a_pretrained_model_are_part_of_a_configuration(
    pretrained: Path, tmp_path: Path
) -> None:
    """Weights and tokenizer: a run planned with others is refused."""
    shutil.copytree(pretrained, tmp_path / "base")
    base = tmp_path / "base"
    first = digest_of_files(str(base))
    assert first == digest_of_files(str(pretrained))
    experiment = EXPERIMENTS["llama-lora"]
    model = dataclasses.replace(experiment.base.model, base=str(base))  # type: ignore[type-var]
    run = dataclasses.replace(experiment.base, model=model, base=first)
    check_base(run)
    for name in ("model.safetensors", "tokenizer.json"):
        kept = (base / name).read_bytes()
        (base / name).write_bytes(kept + b" ")
        with pytest.raises(UserError, match="changed since this run was planned"):
            check_base(run)
        assert config_hash(run) != config_hash(
            dataclasses.replace(run, base=digest_of_files(str(base)))
        )
        (base / name).write_bytes(kept)
    check_base(run)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (
            {"adapter_config.json": '{"base_model_name_or_path": "some/one"}'},
            "hf download some/one",
        ),
        ({"adapter_config.json": "{"}, "adapter_config.json is damaged"),
        ({"adapter_config.json": "[]"}, "adapter_config.json is damaged"),
        ({"config.json": None, "pytorch_model.bin": "no weights"}, "cannot be opened"),
        ({"config.json": None, "model.safetensors": "no weights"}, "cannot be opened"),
        (
            {"config.json": '{"model_type": "x", "auto_map": {"AutoModelForCausalLM": "a.B"}}'},
            "cannot",
        ),
    ],
)
def test_strangers_folders_are_said_in_a_sentence_and_run_nothing(
    files: dict[str, str | None], says: str, pretrained: Path, tmp_path: Path
) -> None:
    for name, content in files.items():
        text = (pretrained / name).read_text() if content is None else content
        (tmp_path / name).write_text(text)
    (tmp_path / "a.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(UserError, match=says):
        open_causal(tmp_path)
