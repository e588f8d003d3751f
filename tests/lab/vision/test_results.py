"""Numbers and pictures of docs/results/vision.md are those of the committed runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from resonant.lab.kit.grid import as_markdown
from resonant.lab.kit.results import first_folder
from resonant.lab.report.attention import by_layer, read_diagnosis
from resonant.lab.report.page import write_figures
from resonant.lab.report.sections import all_tables, sweep

from ..committed import RESULTS, ROOT, folder_of, results_of

PAGE = (RESULTS / "vision.md").read_text()
ARMS = ("softmax", "softmax-grid", "krause-grid", "krause-grid-topk")
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
    results = results_of(name)
    assert results.seeds == seeds
    tables = all_tables(results)
    assert headings <= {heading for heading, _ in tables}
    for heading, grid in tables:
        assert as_markdown(grid, heading).strip() in PAGE, heading


def depth(name: str, arm: str, number: str) -> list[float]:
    """A number by layer, of what the first seed of an arm kept."""
    results = results_of(name)
    [found] = [each for each in results.arms if each.name == arm]
    diagnosis = read_diagnosis(first_folder(found, folder_of(name)))
    assert diagnosis is not None
    return [float(x) for x in np.asarray(by_layer(diagnosis, number))]


def test_every_first_seed_kept_what_it_looks_at() -> None:
    for name in ("digits", "cifar10-subset", "mnist-pixels"):
        for arm in results_of(name).arms:
            assert len(depth(name, arm.name, "sink")) == len(depth(name, arm.name, "token_cosine"))
            assert (first_folder(arm, folder_of(name)) / "pictures.npz").is_file()


@pytest.mark.parametrize(
    ("name", "figure", "committed"),
    [
        pytest.param("mnist-pixels", "completed", "vision-completed", marks=pytest.mark.slow),
        pytest.param("mnist-pixels", "drawn", "vision-drawn", marks=pytest.mark.slow),
        ("cifar10-subset", "looks", "vision-looks"),
        ("cifar10-subset", "depth", "vision-depth"),
    ],
)
def test_the_pictures_are_those_of_the_runs(
    name: str, figure: str, committed: str, tmp_path: Path
) -> None:
    [written] = write_figures(results_of(name), folder_of(name), tmp_path, only=figure)
    ours, theirs = (p.read_text() for p in (written, PICTURES / f"{committed}.svg"))
    words = r">([^<>]+)</text>"
    assert re.findall(words, ours) == re.findall(words, theirs)
    assert ours.count("<image") == theirs.count("<image")
    paths = [re.findall(r' d="([^"]*)"', svg) for svg in (ours, theirs)]
    numbers = [[float(n) for each in p for n in re.findall(r"-?\d+\.?\d*", each)] for p in paths]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.1)
    assert f"pictures/{committed}.svg" in PAGE


def test_what_the_page_says_of_depth() -> None:
    """Of the last layer of the first seeds."""
    cifar = {a: depth("cifar10-subset", a, "token_cosine")[-1] for a in ARMS}
    assert [f"{cifar[a]:.3f}" for a in ARMS] == ["0.598", "0.326", "0.361", "0.466"]
    sinks = {n: [depth(n, a, "sink")[-1] for a in ARMS] for n in ("cifar10-subset", "digits")}
    quoted = {"cifar10-subset": ("0.011", "0.210", "0.326"), "digits": ("0.121", "0.234", "0.609")}
    for name, found in sinks.items():
        assert tuple(f"{each:.3f}" for each in found[:3]) == quoted[name]
        assert all(each in PAGE for each in quoted[name])
    assert f"{depth('digits', 'softmax-grid', 'uniform_sink')[-1]:.3f}" == "0.182"
    pixels = results_of("mnist-pixels").arms
    assert max(x for arm in pixels for x in depth("mnist-pixels", arm.name, "sink")) < 0.15


def test_what_the_page_says_of_seeds_and_sweeps() -> None:
    [softmax] = [a for a in results_of("digits").arms if a.name == "softmax"]
    accuracies = sorted(softmax.losses("accuracy"))
    assert (f"{100 * accuracies[0]:.1f}", f"{100 * accuracies[-1]:.1f}") == ("81.7", "95.0")
    found = sweep(results_of("digits"))
    assert found is not None
    assert not any(row[-1] for row in found.rows)  # no best rate at an edge
    for name, count in (("cifar10-subset", 3), ("mnist-pixels", 5)):
        edges = sweep(results_of(name))
        assert edges is not None
        assert sum(row[-1] == "at the edge" for row in edges.rows) == count


def test_the_readme_quotes_vision() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in ("digits", "cifar10-subset"):
        arms = {arm.name: arm for arm in results_of(name).arms}
        for arm in ARMS if name == "cifar10-subset" else ARMS[:3]:
            assert f"{100 * arms[arm].mean('accuracy'):.2f}" in readme, (name, arm)
    for arm in results_of("mnist-pixels").arms:
        if arm.name in ("softmax-window", "krause-window", "linear"):
            assert f"{arm.mean('test_loss'):.4f}" in readme, arm.name
