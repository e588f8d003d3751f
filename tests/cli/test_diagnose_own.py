"""`resonant diagnose MODULE:NAME` on models and inputs of one's own."""

from pathlib import Path

import pytest

from resonant.cli.main import main

MODELS = """
import torch
from torch import nn
import resonant

class Reader(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.attention = resonant.nn.SoftmaxAttention(width, 2)
    def forward(self, x, scale=None, more=None):
        if scale is not None:
            x = x * scale
        return self.attention(x if more is None else x + more)[0]

class Raises(Reader):
    def forward(self, x):
        raise RuntimeError("no memory")

class Image(nn.Module):
    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 4, stride=4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
    def forward(self, x):
        x = self.cut(x).flatten(2).mT
        return self.attention(x, x, x)[0]

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = resonant.nn.SoftmaxAttention(8, 2)
        self.second = resonant.nn.SoftmaxAttention(8, 4)
    def forward(self, x):
        return self.second(self.first(x)[0])[0]

def tensor(): return Reader(), torch.randn(2, 5, 8)
def pair(): return Reader(), (torch.randn(2, 5, 8), torch.tensor(2.0))
def named(): return Reader(), {"x": torch.randn(2, 5, 8), "more": torch.ones(2, 5, 8)}
def image(): return Image(), torch.randn(2, 3, 16, 16)
def raises(): return Raises(), torch.randn(2, 5, 8)
def scalar(): return Reader(), torch.tensor(1.0)
def empty(): return Reader(), torch.zeros(0, 5, 8)
def text(): return Reader(), "abc"
def plain(): return nn.Linear(2, 2), torch.randn(2, 5, 2)
def differs(): return Two(), torch.randn(2, 5, 8)
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "models_of_mine.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return "models_of_mine.py"


@pytest.mark.parametrize("name", ["tensor", "pair", "named", "image"])
def test_inputs_of_every_kind(models: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", f"{models}:{name}"]) == 0
    out = capsys.readouterr().out
    assert "attention" in out
    assert "diagnosis.html" in out
    assert (Path("diagnosis") / "diagnosis.html").read_text().count("<svg") > 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "it raises RuntimeError: no memory; a function that returns (model, inputs)"),
        ("scalar", "a function that returns (model, inputs) says what it reads"),
        ("empty", "a function that returns (model, inputs) says what it reads"),
        ("text", "gives inputs of type str; return a model, or (model, inputs) with a tensor, a"),
        ("plain", "the model has no attention that could be recorded"),
        ("differs", "attention layers differ in heads or keys, so they make no one summary"),
    ],
)
def test_what_cannot_be_diagnosed_is_said(
    models: str, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", f"{models}:{name}"]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "option"),
    [("tensor", "--length=9"), ("tensor", "--text=abc"), ("tensor", "--of=branch")],
)
def test_options_without_an_effect_are_refused(
    models: str, name: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", f"{models}:{name}", option]) == 2
    assert f"{option.split('=')[0]} is not for models_of_mine.py:{name}" in capsys.readouterr().err


def test_plugins_are_imported_first(models: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", f"{models}:tensor", "--plugins", "no_such_module"]) == 2
    assert "cannot import the plugin 'no_such_module'" in capsys.readouterr().err


def test_a_file_that_would_hide_a_module_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my.exp.py").write_text(MODELS)
    assert main(["diagnose", f"{tmp_path}/my.exp.py:tensor"]) == 2
    assert "cannot be imported by its name" in capsys.readouterr().err
    (tmp_path / "json.py").write_text(MODELS)
    assert main(["diagnose", f"{tmp_path}/json.py:tensor"]) == 2
    assert "json, which it would hide; rename the file" in capsys.readouterr().err
