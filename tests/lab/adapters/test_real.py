"""Numbers of docs/results/llama.md are those of its runs."""

from __future__ import annotations

import numpy as np
import pytest

from resonant.lab.kit.grid import as_markdown
from resonant.lab.kit.results import ArmResult
from resonant.lab.report.sections import all_tables

from ..committed import RESULTS, ROOT, results_of

PAGE = (RESULTS / "llama.md").read_text()
ARMS = ("lora", "krause-branch", "softmax-window-sink", "krause-window")


def arms(name: str) -> dict[str, ArmResult]:
    return {arm.name: arm for arm in results_of(name).arms}


def near(arm: ArmResult) -> float:
    return float(np.mean([run["sinks_near"]["pretrained"] for run in arm.runs]))


@pytest.mark.parametrize("name", ["smollm2", "smollm2-before"])
def test_the_tables_are_those_of_the_runs(name: str) -> None:
    tables = all_tables(results_of(name))
    shown = (
        tables if name == "smollm2" else [t for t in tables if t[0] == "Sinks, and what they cost"]
    )
    assert shown
    for heading, grid in shown:
        assert as_markdown(grid, heading).strip() in PAGE, heading


def test_the_first_table_answers_the_question() -> None:
    first = PAGE.index("| arm |")
    assert PAGE.rindex("**", 0, first) < first
    assert PAGE[:first].rstrip().endswith("**Sinks, and what they cost**")


def test_what_the_page_says_of_them() -> None:
    after, before = arms("smollm2"), arms("smollm2-before")
    assert set(after) == set(ARMS)
    readme = (ROOT / "README.md").read_text()
    lora = after["lora"]
    behind = {
        (name, metric): after[name].mean(metric) - lora.mean(metric)
        for name in ARMS
        for metric in ("test_loss", "beside_loss")
    }
    for shown in (PAGE, readme):
        assert f"{behind['krause-window', 'test_loss']:.2f}" in shown
        assert f"{behind['krause-window', 'beside_loss']:.2f}" in shown
        assert f"{near(after['krause-window']):.3f}" in shown
        assert f"{near(lora):.3f}" in shown
    assert f"{near(before['krause-window']):.3f} before any training" in PAGE
    assert f"softmax gave it {near(before['lora']):.3f}" in PAGE
    left = near(before["softmax-window-sink"]), near(before["softmax-window"])
    assert f"{left[0]:.3f} of {left[1]:.3f} are left" in PAGE
    assert f"has {near(after['softmax-window-sink']):.3f} again" in PAGE
    assert f"{before['lora'].mean('test_loss'):.2f} nats before" in PAGE
    assert f"{lora.mean('test_loss'):.2f} after" in PAGE
    ends = [run["learned_numbers"]["end"] for run in after["krause-branch"].runs]
    gammas = [abs(x) for end in ends for name, each in end.items() if "gamma" in name for x in each]
    assert f"within {max(gammas):.2f} of 0" in PAGE
    assert f"differ by {behind['krause-branch', 'test_loss']:+.3f}" in PAGE
