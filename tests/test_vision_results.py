"""Numbers and pictures of docs/results/vision.md are those of the committed runs."""

from pathlib import Path

import numpy as np
import pytest

from resonant.report.attention import by_layer, read_diagnosis
from resonant.report.grid import as_markdown
from resonant.report.page import write_figures
from resonant.report.results import first_folder, gather
from resonant.report.table import all_tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
PAGE = (RESULTS / "vision.md").read_text()
PICTURES = ROOT / "docs" / "pictures"


@pytest.mark.parametrize(
    ("name", "seeds", "headings"),
    [
        ("digits", 5, {"Accuracy, in % of test pictures"}),
        ("cifar10-subset", 3, {"Accuracy, in % of test pictures"}),
        ("mnist-pixels", 3, {"Pictures moved down by a row"}),
    ],
)
def test_the_tables_are_those_of_the_runs(name: str, seeds: int, headings: set[str]) -> None:
    results = gather(RESULTS / name)
    assert results.seeds == seeds
    tables = all_tables(results)
    assert headings <= {heading for heading, _ in tables}
    for heading, grid in tables:
        assert as_markdown(grid, heading).strip() in PAGE, heading


def depth(name: str, arm: str, number: str) -> list[float]:
    """A number by layer, of what the first seed of an arm kept."""
    results = gather(RESULTS / name)
    [found] = [each for each in results.arms if each.name == arm]
    diagnosis = read_diagnosis(first_folder(found, RESULTS / name))
    assert diagnosis is not None
    return [float(x) for x in np.asarray(by_layer(diagnosis, number))]


def test_every_first_seed_kept_what_it_looks_at() -> None:
    for name in ("digits", "cifar10-subset", "mnist-pixels"):
        for arm in gather(RESULTS / name).arms:
            assert len(depth(name, arm.name, "sink")) == len(depth(name, arm.name, "token_cosine"))
            assert (first_folder(arm, RESULTS / name) / "pictures.npz").is_file()


@pytest.mark.parametrize(
    ("name", "figure", "committed"),
    [
        ("mnist-pixels", "completed", "vision-completed"),
        ("mnist-pixels", "drawn", "vision-drawn"),
        ("cifar10-subset", "looks", "vision-looks"),
        ("cifar10-subset", "depth", "vision-depth"),
    ],
)
def test_the_pictures_are_those_of_the_runs(
    name: str, figure: str, committed: str, tmp_path: Path
) -> None:
    [written] = write_figures(gather(RESULTS / name), RESULTS / name, tmp_path, only=figure)
    ours, theirs = (p.read_text() for p in (written, PICTURES / f"{committed}.svg"))
    assert len(ours) == pytest.approx(len(theirs), rel=0.01)
    assert ours.count("<image") == theirs.count("<image")
    assert f"pictures/{committed}.svg" in PAGE
