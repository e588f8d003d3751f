"""Numbers of docs/results/adapters.md and docs/llm.md are those of runs and presets."""

import numpy as np
import pytest

from resonant.lab.kit.grid import as_markdown
from resonant.lab.kit.results import Results
from resonant.lab.kit.statistics import paired_difference
from resonant.lab.report.sections import all_tables, sweep
from resonant.models.costs import token_cost
from resonant.models.language_configs import preset

from ..committed import RESULTS, ROOT, results_of

PAGE = (RESULTS / "adapters.md").read_text()
NAMES = ("llama-lora", "qwen-lora")
ARMS = ("lora", "softmax-branch", "krause-branch", "krause-branch-mix")


@pytest.fixture(params=NAMES)
def results(request: pytest.FixtureRequest) -> Results:
    return results_of(request.param)


def test_the_tables_are_those_of_the_runs(results: Results) -> None:
    assert results.seeds == 3
    tables = all_tables(results)
    assert {"What learns", "Weight of the first token"} <= {heading for heading, _ in tables}
    for heading, grid in tables:
        assert as_markdown(grid, heading).strip() in PAGE, heading


def test_what_the_page_says_of_every_run(results: Results) -> None:
    found = sweep(results)
    assert found is not None
    assert [arm.name for arm in results.arms] == list(ARMS)
    at_one_rate = [float(row[found.columns.index("lr 0.004")].rstrip("* ")) for row in found.rows]
    assert (
        max(at_one_rate) - min(at_one_rate)
        < {"llama-lora": 0.004, "qwen-lora": 0.008}[results.experiment]
    )
    gammas: dict[str, list[float]] = {}
    sinks = {}
    for arm in results.arms:
        for run in arm.runs:
            end = run["learned_numbers"]["end"]
            moved = [abs(x) for name, each in end.items() if "gamma" in name for x in each]
            gammas.setdefault(arm.name, []).extend(moved)
        heads = np.mean([run["sinks"]["pretrained"] for run in arm.runs], axis=(0, 2))
        sinks[arm.name] = heads
    least = 0.035 if results.experiment == "llama-lora" else 0.155
    assert max(max(each) for each in gammas.values() if each) < least
    assert max(each.max() for each in sinks.values()) < 0.06
    assert all(abs(each - sinks["lora"]).max() < 0.02 for each in sinks.values())


def test_the_verdicts_that_the_page_tells() -> None:
    shown = {}
    for name in NAMES:
        arms = {arm.name: arm for arm in results_of(name).arms}
        for ours, theirs in (
            ("softmax-branch", "lora"),
            ("krause-branch", "softmax-branch"),
            ("krause-branch-mix", "krause-branch"),
            ("krause-branch", "lora"),
        ):
            losses = (arms[each].losses("test_loss") for each in (ours, theirs))
            shown[name, ours, theirs] = paired_difference(*losses)
    higher = {key for key, each in shown.items() if each.verdict == "higher"}
    assert higher == {
        ("llama-lora", "softmax-branch", "lora"),
        ("qwen-lora", "krause-branch", "lora"),
    }
    assert all(each.verdict != "lower" for each in shown.values())


def test_the_readme_quotes_them() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    means = {arm.name: arm.mean("test_loss") for arm in results_of("llama-lora").arms}
    qwen = {arm.name: f"{arm.mean('test_loss'):.4f}" for arm in results_of("qwen-lora").arms}
    for words in (
        f"{qwen['lora']}, {qwen['softmax-branch']} and {qwen['krause-branch']}",
        f"{means['lora']:.4f} nats per token with adapters alone",
        f"{means['softmax-branch']:.4f} with a softmax branch of 32 keys",
        f"{means['krause-branch']:.4f} with Krause in its place",
    ):
        assert words in readme, words


def test_the_table_of_presets_is_what_they_cost() -> None:
    page = (ROOT / "docs" / "llm.md").read_text()
    for name in ("krause-100m", "softmax-100m", "krause-200m", "softmax-200m"):
        cost = token_cost(preset(name), 2048)
        row = (
            f"| {name} | {cost.parameters / 1e6:.2f}M | {cost.training_flops / 1e6:,.1f} | "
            f"{cost.decoding_flops / 1e6:.1f} | {cost.cache_bytes / 1e6:.2f} MB |"
        )
        assert row in page, row
