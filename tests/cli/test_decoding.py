"""`resonant bench --decoding`: numbers, tables, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from resonant.benchmarks.decoding import COUNTED, attending, price_list, ways
from resonant.cli.decoding import price_tables
from resonant.cli.main import main
from resonant.integrations.opening import open_causal
from resonant.lab.adapters.bases import base_model, subwords
from resonant.lab.adapters.model_config import Base

SMALL = Base("llama", layers=2, width=16, heads=2, key_value_heads=1, hidden=16, vocabulary=300)
OPTIONS = ["--contexts", "40", "60", "--keys", "12", "--first", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("base")
    model = base_model(SMALL)
    with torch.no_grad():  # so that attention matters
        for name, weight in model.named_parameters():
            if "proj" in name or "embed" in name:
                weight.mul_(8)
    model.save_pretrained(made)
    subwords("def f(x):\n    return x\n" * 50, SMALL.vocabulary).save_pretrained(made)
    (made / "text.txt").write_text("def f(x):\n    return x\nclass A:\n    y = 3\n" * 200)
    return made


def measured(folder: Path, out: Path, *more: str) -> dict[str, Any]:
    options = [*OPTIONS, "--json", str(out / "prices.json"), *more]
    assert main(["bench", "--decoding", str(folder), *options]) == 0
    return json.loads((out / "prices.json").read_text())


def test_prices_are_those_of_the_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured(folder, tmp_path, "--text", str(folder / "text.txt"), "--pieces", "2")
    shown = capsys.readouterr().out
    tables = price_tables(found)
    assert list(tables) == ["Tokens a second", "Memory of the cache", "Loss after the context"]
    for heading, grid in tables.items():
        assert heading in shown
        assert [row[0] for row in grid.rows] == [way.name for way in ways(12, 3)]
    prices = {(each["way"], each["context"]): each for each in found["prices"]}
    assert all(each["tokens_per_second"] > 0 for each in prices.values())
    measured(folder, tmp_path, "--markdown")
    assert "| row | after 40 | after 60 |" in capsys.readouterr().out
    assert main(["bench", "--markdown"]) == 2
    assert "--markdown is for --decoding MODEL" in capsys.readouterr().err
    one = 2 * 2 * 8 * 4  # keys and values, layers, width of a head, bytes
    assert prices["all keys", 60]["cache_bytes"] == 60 * one
    assert prices["12 keys", 60]["cache_bytes"] == prices["12 keys", 40]["cache_bytes"] == 11 * one
    assert prices["9 keys and the first 3", 60]["cache_bytes"] == 11 * one


def test_losses_are_those_of_the_model_in_each_way(folder: Path, tmp_path: Path) -> None:
    found = measured(folder, tmp_path, "--text", str(folder / "text.txt"), "--pieces", "2")
    losses = {(each["way"], each["context"]): each["loss"] for each in found["prices"]}
    model, tokenizer = open_causal(folder)
    ids = tokenizer((folder / "text.txt").read_text(), add_special_tokens=False)["input_ids"]
    length = 60 + COUNTED
    pieces = torch.tensor(ids[: 2 * length]).view(2, length)
    for way in ways(12, 3):
        with torch.no_grad(), attending(model, way):
            logits = model(pieces, use_cache=False).logits
        each = F.cross_entropy(
            logits[:, :-1].flatten(0, 1), pieces[:, 1:].flatten(), reduction="none"
        )
        after = each.view(2, -1)[:, 39 : 39 + COUNTED].mean()
        assert losses[way.name, 40] == pytest.approx(float(after), abs=1e-5)
    assert len({round(losses[way.name, 60], 6) for way in ways(12, 3)}) == 5


def test_the_model_is_left_as_it_was(folder: Path) -> None:
    model, _ = open_causal(folder)
    ids = torch.randint(300, (1, 50), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(ids).logits
        price_list(model, [20], ways(8, 2))
        assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--first", "12"], "between 1 and --keys 12"),
        (["--contexts", "8"], "longer than 16 tokens"),
        (["--pieces", "0"], "at least 1"),
        (["--text", "nowhere.txt"], "cannot read nowhere.txt"),
        (["--pieces", "9999"], "give a longer text"),
        (["--json", "nowhere/x.json"], "folder that is not there"),
        (["krause"], "in place of rows"),
    ],
)
def test_what_cannot_be_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    given = [*OPTIONS, "--text", str(folder / "text.txt"), *options]
    rows = [word for word in given if word == "krause"]
    rest = [word for word in given if word != "krause"]
    assert main(["bench", *rows, "--decoding", str(folder), *rest]) == 2
    assert why in capsys.readouterr().err
