"""A user's own mechanism: fifteen lines, held to the laws, trained by the command line."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import resonant
from resonant.mechanism import _MECHANISMS, mechanism
from resonant.models.language_configs import AttentionConfig
from resonant.nn import attention
from resonant.testing import LAWS, assert_cache, assert_causal, assert_padding, check_mechanism
from tests.lab.running import compare, quality, write_text

EXAMPLE = Path(__file__).parent.parent / "examples" / "own_mechanism.py"


@pytest.fixture(autouse=True)
def example() -> Iterator[None]:
    before = dict(_MECHANISMS)
    spec = importlib.util.spec_from_file_location("own_mechanism", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield
    _MECHANISMS.clear()
    _MECHANISMS.update(before)


def test_it_is_fifteen_lines() -> None:
    lines = EXAMPLE.read_text().split("if __name__")[0].splitlines()[1:]
    assert len([line for line in lines if line.strip()]) <= 15


@pytest.mark.parametrize("law", LAWS)
def test_it_obeys_the_laws(law: str) -> None:
    LAWS[law](mechanism("cosine"))


def test_it_is_a_module_and_a_model_with_learned_scalars() -> None:
    module = attention("cosine", 16, 4, sharpness=3.0)
    assert "scalars.sharpness.value" in dict(module.named_parameters())
    output, weights = module(torch.randn(2, 9, 16), is_causal=True, need_weights=True)
    assert output.shape == (2, 9, 16)
    assert weights is not None
    assert weights.triu(1).eq(0).all()
    model = resonant.language_model("0.11M", mechanism="cosine")
    assert model(torch.randint(0, 256, (2, 9))).shape == (2, 9, 256)
    gated = AttentionConfig("cosine", window=7, gate="energy")
    for assert_law in (assert_causal, assert_padding, assert_cache):
        assert_law(resonant.language_model("0.11M", attention=gated))


@pytest.mark.slow
def test_it_is_compared_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PYTHONPATH", f"{EXAMPLE.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    )
    text, out = write_text(tmp_path), tmp_path / "out"
    options = ["--plugins=own_mechanism", "--model.attention.mechanism=cosine"]
    compare(text, out, *options, "--model.attention.scalars.sharpness=4")
    assert len(quality(out)) == 1
    described = (out / "krause-window-topk-seed0" / "config.json").read_text()
    assert '"mechanism": "cosine"' in described
    assert '"sharpness": 4' in described


def test_a_mechanism_that_breaks_a_law_is_caught() -> None:
    @resonant.register("leaky")
    def leaky(query, key, value):
        """The mean of all keys, the future's included, moves every key."""
        return resonant.Lift(query, key - key.mean(dim=2, keepdim=True) * 3, value + key.mean())

    with pytest.raises(AssertionError, match="the future reaches the past: leaky"):
        check_mechanism("leaky")


def test_keys_that_know_of_one_another_cannot_be_cached() -> None:
    @resonant.register("whitened")
    def whitened(query, key, value):
        """Keys less the running mean of the keys in this call: causal, but not by key."""
        count = torch.arange(1, key.shape[2] + 1).view(-1, 1)
        return resonant.Lift(query, key - key.cumsum(2) / count, value)

    LAWS["causality"](mechanism("whitened"))
    with pytest.raises(AssertionError, match="whitened: decoding differs by"):
        LAWS["cache"](mechanism("whitened"))


def test_a_wrong_off_is_caught() -> None:
    @resonant.register("blunt", strength=resonant.Scalar(start=1.0, off=1.0))
    def blunt(query, key, value, strength):
        return resonant.Lift(query * strength[:, None, None], key, value)

    with pytest.raises(AssertionError, match=r"blunt with strength=1\.0 is not mean"):
        LAWS["off"](mechanism("blunt"))


def test_names_are_taken_once() -> None:
    with pytest.raises(ValueError, match="'krause' is registered already"):
        resonant.register("krause")(mechanism("softmax").lift)
    with pytest.raises(ValueError, match="must start above 0"):
        resonant.Scalar(start=0.0, off=1.0)
    for law in LAWS.values():
        assert (law.__doc__ or "").strip()
