"""Numbers of docs/results/adapters.md and docs/llm.md are those of runs and presets."""

from pathlib import Path

import pytest

from resonant.models.configs import preset
from resonant.models.costs import token_cost
from resonant.report.grid import as_markdown
from resonant.report.results import Results, gather
from resonant.report.table import all_tables, sweep

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
PAGE = (RESULTS / "adapters.md").read_text()
NAMES = ("llama-lora", "qwen-lora")
ARMS = ("lora", "softmax-branch", "krause-branch", "krause-branch-mix")


@pytest.fixture(params=NAMES)
def results(request: pytest.FixtureRequest) -> Results:
    return gather(RESULTS / request.param)


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
    gammas, sinks = [], []
    for arm in results.arms:
        for run in arm.runs:
            end = run["learned_numbers"]["end"]
            gammas += [abs(x) for name, each in end.items() if "gamma" in name for x in each]
            sinks += [max(sum(head) / len(head) for head in run["sinks"]["pretrained"])]
    assert max(gammas) < 0.1
    assert max(sinks) < 0.1


def test_the_readme_quotes_them() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    means = {arm.name: arm.mean("test_loss") for arm in gather(RESULTS / "llama-lora").arms}
    for words in (
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
