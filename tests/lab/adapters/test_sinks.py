"""`resonant sinks` on a small model: numbers, tables, pictures, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.functional import Causal
from resonant.integrations import use_attention
from resonant.integrations.opening import open_causal
from resonant.integrations.sinks import attention_sinks, measure_sinks
from resonant.lab.adapters.bases import base_model, subwords
from resonant.lab.adapters.model_config import Base
from resonant.lab.adapters.sink_tables import query_blocks, sink_tables
from resonant.lab.adapters.sinks import read_sinks

SMALL = Base("llama", layers=2, width=16, heads=2, key_value_heads=1, hidden=16, vocabulary=300)
OPTIONS = ["--tokens", "32", "--rows", "2", "--length", "48", "--windows", "8,16", "--first", "0,2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("base")
    base_model(SMALL).save_pretrained(made)
    subwords("def f(x):\n    return x\n" * 50, SMALL.vocabulary).save_pretrained(made)
    return made


def test_numbers_are_those_of_the_weights(folder: Path) -> None:
    model, _ = open_causal(folder)
    ids = torch.randint(300, (3, 20), generator=torch.Generator().manual_seed(0))
    found = measure_sinks(model, ids)
    each = [attention_sinks(model, input_ids=row[None]) for row in ids]
    torch.testing.assert_close(found.weight, torch.stack(each).mean(0))
    assert found.by_query.shape == (2, 19)
    torch.testing.assert_close(found.by_query.mean(1), found.weight.mean(1))
    assert found.uniform.tolist() == pytest.approx([1 / n for n in range(2, 21)])
    with torch.no_grad():  # the first key is as long as others where all tokens are one
        alike = measure_sinks(model, torch.full((1, 9), 7))
    assert alike.key_norm[0].item() == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="one token"):
        measure_sinks(model, ids[:, :1])


def test_the_command_writes_tables_numbers_and_pictures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sinks"
    assert main(["sinks", str(folder), *OPTIONS, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    found = read_sinks(out / "sinks.json")
    tables = sink_tables(found)
    for heading, grid in tables.items():
        assert heading in shown
        for row in grid.rows:
            assert all(cell in shown for cell in row)
    assert {path.stem for path in out.glob("*.svg")} == {"heads", "queries", "windows"}
    for path in out.glob("*.svg"):
        assert path.read_text().startswith("<svg")
    assert main(["sinks", str(folder), *OPTIONS, "--markdown", "--out", str(out)]) == 0
    assert "| name | row | sinks |" in capsys.readouterr().out


def test_losses_in_windows_are_those_of_the_model(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sinks"
    assert main(["sinks", str(folder), *OPTIONS, "--out", str(out)]) == 0
    found = json.loads((out / "sinks.json").read_text())
    losses = {(each["window"], each["first"]): each["loss"] for each in found["windows"]}
    assert losses.keys() == {(None, 0), (8, 0), (8, 2), (16, 0), (16, 2)}
    model, tokenizer = open_causal(folder)
    from resonant.lab.adapters.texts import text_of, windows

    (ids,) = windows(text_of("code", tokenizer, None), tokenizer, 1, 48)
    given = torch.tensor([ids])
    use_attention(model, "softmax", neighborhood=Causal(8, first=2), check=False)
    with torch.no_grad():
        loss = model(input_ids=given, labels=given).loss.item()
    assert losses[8, 2] == pytest.approx(loss, abs=1e-5)


def test_blocks_of_queries_cover_every_later_query() -> None:
    for count in (1, 2, 7, 8, 255):
        covered = [i for a, b in query_blocks(count) for i in range(a, b)]
        assert covered == list(range(1, count + 1))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--tokens", "1"], "at least 2"),
        (["--windows", "0"], "from 1 on"),
        (["--first", "-1"], "from 0 on"),
        (["--text", "nowhere.txt"], "no file nowhere.txt"),
        (["--length", "9999999"], "ask for fewer"),
        (["--text", "chat"], "chat template"),
        (["--text", ""], "names no text"),
    ],
)
def test_what_cannot_be_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    given = ["sinks", str(folder), "--tokens", "16", "--length", "16", "--windows", "8"]
    assert main([*given, *options, "--out", str(tmp_path)]) == 2
    assert re.search(why, capsys.readouterr().err)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "sinks.json").write_text("{}")
    with pytest.raises(UserError, match=r"sinks\.json"):
        read_sinks(tmp_path / "sinks.json")


def test_several_models_lie_side_by_side(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    windowed = tmp_path / "windowed"
    model, tokenizer = open_causal(folder)
    use_attention(model, "softmax", neighborhood=Causal(8))
    model.save_pretrained(windowed)
    tokenizer.save_pretrained(windowed)
    out = tmp_path / "sinks"
    options = ["--tokens", "32", "--rows", "2", "--length", "48", "--out", str(out)]
    assert main(["sinks", str(folder), str(windowed), *options]) == 0
    assert "windowed: code" in capsys.readouterr().out
    found = read_sinks(out / "sinks.json")
    tables = sink_tables(found)
    assert "Loss in windows" not in tables
    assert [row[0] for row in tables["Loss"].rows] == [folder.name, "windowed"]
    full, near = (e["by_query"] for e in found["texts"][:: len(found["texts"]) // 2])
    assert near[:7] == pytest.approx(full[:7], abs=0.05)  # layers below differ a little
    assert set(near[7:]) == {0.0}  # the first token has left the window
    assert min(full) > 0
    assert (out / "heads.svg").is_file()
    assert main(["sinks", str(folder), str(windowed), *options, "--windows", "8"]) == 2
    assert "windows are those of one model" in capsys.readouterr().err
    assert main(["sinks", str(folder), str(folder), *options]) == 2
    assert "named twice" in capsys.readouterr().err
