"""Tables of adapted models that are deep: what sinks cost, layers as rows, arms before training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from resonant.cli.main import main
from resonant.diagnostics import LayerRecord
from resonant.integrations.opening import open_causal
from resonant.integrations.sinks import record_transformer
from resonant.lab.adapters.bases import base_model, subwords
from resonant.lab.adapters.model_config import Base
from resonant.lab.adapters.tables import adapter_tables
from resonant.lab.kit.results import Results, gather
from resonant.lab.kit.statistics import paired_difference

LAYERS = 9
DEEP = Base("llama", layers=LAYERS, width=16, heads=2, key_value_heads=1, hidden=16, vocabulary=300)
ARMS = ("lora", "krause-branch", "krause-window")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    base, lines = (tmp_path_factory.mktemp(name) for name in ("base", "lines"))
    base_model(DEEP).save_pretrained(base)
    subwords("def f(x):\n    return x\n" * 50, DEEP.vocabulary).save_pretrained(base)
    prompts = [{"prompt": "What is it? " * 4 + str(i), "response": f" {i}."} for i in range(240)]
    (lines / "lines.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    given = {
        "data.name": "jsonl",
        "data.path": str(lines / "lines.jsonl"),
        "data.beside": "code",
        "model.base": str(base),
        "training.batch_size": "2",
        "training.context": "96",
        "training.warmup": "0",
        "training.evaluate_every": "2",
        "training.evaluation_windows": "4",
        "training.sample_tokens": "2",
    }
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    return ["compare", "smollm2-lora", "--arms", ",".join(ARMS), "--no-probe", *options]


@pytest.fixture(scope="module")
def folder(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "out"
    assert main([*command, "--seeds", "3", "--training.steps", "2", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return gather(folder)


def test_what_sinks_cost_is_that_of_the_runs(results: Results) -> None:
    grid = adapter_tables(results)["Sinks, and what they cost"]
    lora, *others = results.arms
    assert [row[0] for row in grid.rows] == list(ARMS)
    assert grid.rows[0][3] == grid.rows[0][5] == ""
    for arm, row in zip(others, grid.rows[1:], strict=True):
        near = np.mean([run["sinks_near"]["pretrained"] for run in arm.runs])
        assert row[1] == f"{near:.3f}"
        for cells, metric in ((row[2:4], "test_loss"), (row[4:6], "beside_loss")):
            found = paired_difference(arm.losses(metric), lora.losses(metric))
            assert cells[0] == f"{arm.mean(metric):.3f}"
            half = cells[1].split(" ± ")[1]
            assert found.half_width is not None
            assert float(half) == pytest.approx(found.half_width, abs=6e-4)


def test_layers_of_deep_models_are_rows(results: Results) -> None:
    tables = adapter_tables(results)
    sinks, gamma = tables["Weight of the first token"], tables["Gamma by layer"]
    names = [f"layer {i + 1}" for i in range(LAYERS)]
    assert [row[0] for row in sinks.rows] == [*names, "largest head"]
    assert sinks.columns == ("row", *ARMS[:2], "krause-branch: branch", ARMS[2])
    branch = np.mean([run["sinks"]["branch"] for run in results.arms[1].runs], axis=0)
    shown = [row[3] for row in sinks.rows]
    assert shown == [*(f"{x:.3f}" for x in branch.mean(-1)), f"{branch.max():.3f}"]
    assert gamma.columns == ("row", "krause-branch")
    ends = [run["learned_numbers"]["end"] for run in results.arms[1].runs]
    last = np.mean([end[f"layers.{LAYERS - 1}.self_attn.krause_branch.gamma"] for end in ends])
    assert gamma.rows[-1] == [f"layer {LAYERS}", f"{last:+.4f}"]
    assert any(float(row[1]) != 0 for row in gamma.rows)


def test_near_sinks_count_queries_that_every_window_holds(folder: Path) -> None:
    model, _ = open_causal(folder / "lora-seed0")
    ids = torch.randint(300, (2, 50), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, near = (record_transformer(model, input_ids=x) for x in (ids, ids[:, :32]))
    layer: LayerRecord
    for layer, cut in zip(whole.layers, near.layers, strict=True):
        seen = layer.weights[:, :, 1:32, 0].mean((0, 2))
        torch.testing.assert_close(cut.sink(), seen, atol=1e-5, rtol=1e-4)


def test_no_step_measures_what_there_is(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "before"
    # The cost is measured too, and is no curve.
    probed = [word for word in command if word != "--no-probe"]
    assert main([*probed, "--seeds", "2", "--training.steps", "0", "--out", str(out)]) == 0
    assert (out / "report.html").is_file()
    # Packed and read again, it is the same.
    assert main(["pack", str(out), str(tmp_path / "before.zip")]) == 0
    assert main(["report", str(tmp_path / "before.zip")]) == 0
    swept = [*command, "--sweep", "lr=0.001,0.002", "--training.steps", "0"]
    assert main([*swept, "--out", str(tmp_path / "swept")]) == 2
    arms = {arm.name: arm for arm in gather(out).arms}
    assert arms["lora"].losses("test_loss")[0] == arms["lora"].losses("test_loss")[1]
    assert arms["krause-branch"].losses("test_loss") == arms["lora"].losses("test_loss")
    assert arms["krause-window"].losses("test_loss") != arms["lora"].losses("test_loss")
    assert main([*command, "--seeds", "2", "--training.steps", "0", "--out", str(out)]) == 0
