"""Numbers in the documents are those of the committed runs."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from resonant.cli.decoding import price_tables
from resonant.cli.main import main
from resonant.lab.abilities.tables import ability_tables
from resonant.lab.adapters.sink_tables import sink_tables, write_pictures
from resonant.lab.adapters.sinks import read_sinks
from resonant.lab.alignment.tables import alignment_tables
from resonant.lab.domains import EXPERIMENTS, read_run
from resonant.lab.kit.archive import pack, unpack
from resonant.lab.kit.config import config_hash
from resonant.lab.kit.grid import Grid, as_markdown
from resonant.lab.kit.statistics import paired_difference
from resonant.lab.report.learned import learned_tables
from resonant.lab.report.page import write_figures
from resonant.lab.report.table import contrasts, cost, quality, sweep
from resonant.lab.speech.mel import read_wav
from resonant.lab.speech.tables import speech_tables
from resonant.lab.text.figures import losses_by_position
from resonant.lab.text.tables import without_future

from .committed import RESULTS, ROOT, folder_of, results_of

PICTURES = ROOT / "docs" / "pictures"
PHASES, PREDICT = "phases", "phases-that-predict"
ALIGNMENT, SPEECH = "alignment", "speech"
GATE, RATES, SMALL = "energy-gate", "energy-gate-rates", "energy-gate-small"
ENWIK8, RANDOM = "energy-gate-enwik8", "random-characters"
PROBES, PROBES_LONG = "probes", "probes-long"
ABILITIES = ("induction", "copying")
SMALLER = {"model.layers": 2, "model.width": 64, "model.hidden": 160}
BYTES = {"data.name": "enwik8-prefix", "data.tokens": "bytes", "model.vocabulary": 256}


def cells(text: str) -> set[str]:
    """Every number of a document, and every ``a +- b``."""
    plain = text.replace("**", "").replace("±", "+-")
    found = re.findall(r"[+-]?\d+\.\d+(?: \+- \d+\.\d+)?", plain)
    return {each.lstrip("+") for each in found}


def test_the_tables_of_phases_are_those_of_its_runs() -> None:
    results = results_of(PHASES)
    document = cells((RESULTS / "phases.md").read_text())
    swept = sweep(results)
    assert swept is not None
    rows = [row[1:] for row in (*quality(results).rows, *swept.rows)]
    numbers = {n for row in rows for cell in row for n in cells(cell)}
    assert len(numbers) > 15
    assert numbers <= document, numbers - document
    assert results.seeds == 3


def test_the_tables_of_phases_that_predict_are_those_of_its_runs() -> None:
    results = results_of(PREDICT)
    document = (RESULTS / "phases.md").read_text()
    swept, differences = sweep(results), contrasts(results)
    assert swept is not None
    assert differences is not None
    for grid in (quality(results), swept, differences):
        assert as_markdown(grid).strip() in document, grid.columns
    assert results.seeds == 3
    assert as_markdown(quality(results_of("phases-enwik8"))).partition("\n\n")[0] in document


def test_the_table_of_trials_is_that_of_its_runs() -> None:
    document = (RESULTS / "phases.md").read_text()
    for arm in (*results_of("phases-trials").arms, *results_of("phases-kernel").arms):
        numbers = (f"{arm.mean(metric):.4f}" for metric in ("test_loss", "valid_loss"))
        assert " | ".join(numbers) in document, arm.name


def test_what_phases_had_to_show() -> None:
    """By the means no further behind RoPE than 0.02 bits, and what the pages quote."""
    arms = {arm.name: arm for arm in results_of(PREDICT).arms}

    def difference(arm: str, control: str, metric: str = "test_loss") -> tuple[float, float]:
        found = paired_difference(arms[arm].losses(metric), arms[control].losses(metric))
        assert found.half_width is not None
        return found.mean, found.half_width

    assert difference("kuramoto-oscillators", "softmax")[0] < 0.02 * math.log(2)
    readme = cells((ROOT / "README.md").read_text())
    page = cells((RESULTS / "phases.md").read_text())
    quoted = (
        (difference("kuramoto", "softmax"), (readme, page)),
        (difference("kuramoto-oscillators", "softmax"), (readme, page)),
        (difference("kuramoto-oscillators", "softmax", "valid_loss"), (readme, page)),
        (difference("softmax-oscillators", "softmax"), (readme, page)),
        (difference("kuramoto-oscillators", "softmax-oscillators"), (readme, page)),
        (difference("kuramoto-oscillators", "kuramoto"), (readme, page)),
        (difference("kuramoto-oscillators", "softmax-oscillators", "valid_loss"), (page,)),
        (difference("kuramoto-oscillators", "kuramoto-started"), (page,)),
        (difference("kuramoto", "softmax", "valid_loss"), (page,)),
        (difference("softmax-biased", "softmax"), (page,)),
        (difference("softmax-oscillators", "softmax-biased"), (page,)),
        (difference("kuramoto-threshold", "kuramoto"), (page,)),
        (difference("kuramoto-successors", "kuramoto"), (page,)),
    )
    for (mean, half), places in quoted:
        for place in places:
            assert f"{abs(mean):.3f} +- {half:.3f}" in {n.lstrip("-") for n in place}
    for name in ("kuramoto", "softmax"):
        assert f"{arms[name].mean('test_loss'):.3f}" in readme


def test_the_tables_of_alignment_are_those_of_its_runs() -> None:
    results = results_of(ALIGNMENT)
    document = cells((RESULTS / "alignment.md").read_text())
    swept = sweep(results)
    assert swept is not None
    grids = [quality(results), swept, *alignment_tables(results).values()]
    rows = [row[1:] for grid in grids for row in grid.rows]
    numbers = {n for row in rows for cell in row for n in cells(cell)}
    assert len(numbers) > 200
    assert numbers <= document, numbers - document
    assert results.seeds == 3


def test_what_clocks_had_to_show() -> None:
    """At most half the error of softmax and of the guided arm away from the tempo of training."""
    arms = {arm.name: arm for arm in results_of(ALIGNMENT).arms}

    def error(arm: str, tempo: str) -> float:
        return arms[arm].mean(f"boundary_error@{tempo}")

    for clock in (name for name in arms if name.startswith("clock")):
        for control in ("softmax", "softmax-guided", "softmax-guided-10", "softmax-guided-50"):
            assert error(clock, "1") <= error(control, "1")
            for tempo in ("0.6", "1.6"):
                assert error(clock, tempo) <= 0.5 * error(control, tempo)
        assert max(arms[clock].losses("falls@1")) == 0.0


def test_the_tables_of_speech_are_those_of_its_runs() -> None:
    results = results_of(SPEECH)
    document = (RESULTS / "speech.md").read_text()
    swept = sweep(results)
    assert swept is not None
    tables = alignment_tables(results) | speech_tables(results)
    assert len(tables) == 14
    for grid in (quality(results), cost(results), swept, *tables.values()):
        assert as_markdown(grid).strip() in document, grid.columns
    assert results.seeds == 3
    for sound in re.findall(r"\]\((speech-sound/\S+)\)", document):
        samples = read_wav((RESULTS / sound).read_bytes(), sound)
        assert 0.4 * 22_050 < len(samples) < 2 * 22_050


def test_what_clocks_had_to_show_on_speech() -> None:
    """No worse than softmax at the rate of training, at most half of it away from that."""
    arms = {arm.name: arm for arm in results_of(SPEECH).arms}

    def error(arm: str, tempo: str) -> float:
        return arms[arm].mean(f"boundary_error@{tempo}")

    for clock in ("clock", "clock-measure", "clock-interval"):
        for control in ("softmax", "softmax-guided", "softmax-guided-10"):
            assert error(clock, "1") <= error(control, "1")
        for tempo in ("0.6", "1.6"):
            assert error(clock, tempo) <= 0.5 * error("softmax", tempo)
        for condition in ("1", "0.6", "1.6", "long", "real"):
            assert max(arms[clock].losses(f"falls@{condition}")) == 0.0


def test_the_readme_quotes_speech() -> None:
    arms = {arm.name: arm for arm in results_of(SPEECH).arms}
    readme = cells((ROOT / "README.md").read_text())
    length = arms["clock"].runs[0]["frame_ms"]
    for arm in ("clock", "softmax", "softmax-guided-10"):
        for condition in ("0.6", "1", "1.6", "real"):
            error = length * arms[arm].mean(f"boundary_error@{condition}")
            assert f"{error:.1f}" in readme, (arm, condition)


def test_the_readme_quotes_alignment() -> None:
    arms = {arm.name: arm for arm in results_of(ALIGNMENT).arms}
    readme = cells((ROOT / "README.md").read_text().replace("+-\n", "+- "))
    wanted = [(a, c) for a in ("clock", "softmax") for c in ("0.6", "1", "1.6")]
    wanted += [("clock", "long"), ("softmax-guided-50", "0.6")]
    wanted += [("softmax-scaled", c) for c in ("0.6", "1.6", "long")]
    for arm, condition in wanted:
        assert f"{arms[arm].mean(f'boundary_error@{condition}'):.2f}" in readme, (arm, condition)
    found = paired_difference(*(arms[a].losses("boundary_error@1") for a in ("clock", "softmax")))
    assert f"{found.mean:.2f} +- {found.half_width:.2f}" in readme


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (GATE, ("quality", "contrasts", "without_future", "Gates", "Morlet positions")),
        (RATES, ("sweep",)),
        (SMALL, ("quality", "contrasts", "without_future")),
        (ENWIK8, ("quality", "contrasts", "without_future")),
        (RANDOM, ("quality", "without_future")),
    ],
)
def test_the_tables_of_the_energy_gate_are_those_of_its_runs(
    runs: str, names: tuple[str, ...]
) -> None:
    document = (RESULTS / "energy-gate.md").read_text()
    results = results_of(runs)
    tables: dict[str, Grid | None] = {
        "quality": quality(results),
        "contrasts": contrasts(results),
        "without_future": without_future(results),
        "sweep": sweep(results),
        **learned_tables(results),
    }
    for name in names:
        grid = tables[name]
        assert grid is not None
        assert grid.rows
        assert as_markdown(Grid(grid.columns, grid.rows, "")).strip() in document, name


def test_the_readme_quotes_the_energy_gate() -> None:
    readme = cells((ROOT / "README.md").read_text().replace("+-\n", "+- "))
    arms = {arm.name: arm for arm in results_of(RANDOM).arms}
    for name in ("sequence-8", "sequence-64"):
        for metric in ("test_loss", "test_loss_without_future"):
            assert f"{arms[name].mean(metric):.2f}" in readme, (name, metric)
    text = {arm.name: arm for arm in results_of(GATE).arms}
    for arm, control in (("learned-gate-sequence", "learned"), ("learned-gate-prefix", "learned")):
        found = paired_difference(text[arm].losses("test_loss"), text[control].losses("test_loss"))
        assert f"{found.mean:.3f} +- {found.half_width:.3f}" in readme, arm
    leaking = text["learned-gate-sequence"]
    debt = paired_difference(
        leaking.losses("test_loss_without_future"), leaking.losses("test_loss")
    )
    assert f"{debt.mean:.3f} +- {debt.half_width:.3f}" in readme
    assert f"{text['learned'].mean('test_loss') - text['rotary'].mean('test_loss'):.3f}" in readme


def test_what_the_energy_gate_s_page_says_of_every_run() -> None:
    """Claims of the text that are no cell of a table."""
    floor = math.log(8)
    for arm in results_of(RANDOM).arms:
        losses = arm.losses("test_loss")
        if not arm.name.startswith("sequence"):
            assert all(abs(loss - floor) < 5e-4 for loss in losses)
            continue
        assert all(loss < floor - 0.05 for loss in losses)
        assert all(loss > floor for loss in arm.losses("test_loss_without_future"))
        context = int(arm.name.rpartition("-")[2])
        if context <= 32:
            by_position = losses_by_position(arm)
            assert by_position is not None
            assert (by_position[:, 1:-1] < floor).all()
            assert (abs(by_position[:, [0, -1]] - floor) < 0.1).all()


def test_the_figures_of_the_energy_gate_are_those_of_its_runs(tmp_path: Path) -> None:
    for runs, shown in (
        (GATE, {"differences": "differences", "morlet": "morlet", "positions": "positions"}),
        (RANDOM, {"positions": "random-characters"}),
    ):
        write_figures(results_of(runs), folder_of(runs), tmp_path)
        for name, committed in shown.items():
            ours = (tmp_path / f"{name}.svg").read_text()
            theirs = (PICTURES / f"energy-gate-{committed}.svg").read_text()
            assert drawn(ours) == drawn(theirs), committed


def test_the_pictures_of_phases_are_those_of_their_runs(tmp_path: Path) -> None:
    for runs, shown in ((PREDICT, "phases-gaps"), ("phases-enwik8", "phases-enwik8")):
        write_figures(results_of(runs), folder_of(runs), tmp_path)
        ours, theirs = tmp_path / "gaps.svg", PICTURES / f"{shown}.svg"
        assert drawn(ours.read_text()) == drawn(theirs.read_text())


def drawn(figure: str) -> tuple[list[str], list[float]]:
    """Words, and every number of every path and place, to a tenth of a point."""
    words = re.findall(r">([^<>]+)</text>", figure)
    places = re.findall(r' (?:d|x|y|transform)="([^"]*)"', figure)
    return words, [round(float(n), 1) for each in places for n in re.findall(r"-?\d+\.?\d*", each)]


@pytest.mark.parametrize(
    ("runs", "name", "overrides", "count"),
    [
        (PHASES, "shakespeare", {"training.steps": 2000}, 9 + 12),
        (PREDICT, "shakespeare", {"training.steps": 2000}, 30 + 30),
        (
            "phases-trials",
            "shakespeare",
            {"training.steps": 2000, "training.learning_rate": 0.004},
            9,
        ),
        ("phases-enwik8", "enwik8", {}, 4),
        (
            "phases-kernel",
            "shakespeare",
            {"training.steps": 2000, "training.learning_rate": 0.004},
            3,
        ),
        (ALIGNMENT, "align", {}, 45 + 45),
        (SPEECH, "speech", {"data.real": "ljspeech-sample"}, 30 + 30),
        (GATE, "energy-gate", {}, 45),
        (RATES, "energy-gate", {"training.steps": 500}, 9 + 27),
        (SMALL, "energy-gate", SMALLER, 15),
        (ENWIK8, "energy-gate", SMALLER | BYTES, 12),
        (RANDOM, "random-characters", {}, 36),
        (PROBES, "probes", {}, 99 + 99),
        (PROBES_LONG, "probes", {"training.steps": 1800}, 24),
        ("phase-probes", "phase-probes", {}, 72 + 72),
        ("digits", "digits", {}, 20 + 20),
        ("mnist-pixels", "mnist-pixels", {}, 15 + 15),
        ("cifar10-subset", "cifar10-subset", {}, 12 + 12),
        ("llama-lora", "llama-lora", {}, 12 + 16),
        ("qwen-lora", "qwen-lora", {}, 12 + 8),
        ("smollm2", "smollm2-lora", {}, 8 + 8),
        ("smollm2-before", "smollm2-lora", {"training.steps": 0}, 7),
    ],
)
def test_the_runs_are_those_of_the_experiment(
    runs: str, name: str, overrides: dict[str, Any], count: int
) -> None:
    """Every run has the hash that the command beside the table would give it today."""
    import json

    import yaml

    experiment = EXPERIMENTS[name]
    described = sorted(folder_of(runs).rglob("config.yaml"))
    assert len(described) == count
    for path in described:
        values = yaml.safe_load(path.read_text())
        config = read_run(values)
        done = json.loads((path.parent / "done.json").read_text())
        assert done["hash"] == config_hash(config)
        rate = {"training.learning_rate": config.training.learning_rate, **overrides}
        ours = experiment.config(experiment.base, experiment.arm(config.arm), config.seed, rate)
        assert ours == read_run({**values, "corpus": ours.corpus}), path


@pytest.mark.parametrize(
    ("runs", "page"), [(PROBES, "probes"), (PROBES_LONG, "probes"), ("phase-probes", "phases")]
)
def test_the_tables_of_probes_are_those_of_its_runs(runs: str, page: str) -> None:
    document = (RESULTS / f"{page}.md").read_text()
    tables = ability_tables(results_of(runs))
    assert len(tables) == 2
    for heading, grid in tables.items():
        shown = as_markdown(Grid(grid.columns, grid.rows, "")).strip()
        assert shown in document, heading
        assert grid.legend in document


def test_the_readme_quotes_probes() -> None:
    readme = cells((ROOT / "README.md").read_text())
    soon, late = ({a.name: a for a in results_of(d).arms} for d in (PROBES, PROBES_LONG))
    for name in ("softmax", "krause", "kuramoto"):
        assert f"{soon[f'{name}-induction'].mean('accuracy'):.3f}" in readme
    for name in ("krause", "kuramoto"):
        assert f"{late[f'{name}-induction'].mean('accuracy'):.3f}" in readme
    for name in ("clock", "softmax"):
        assert f"{soon[f'{name}-alignment'].mean('correct@1'):.3f}" in readme


def test_what_the_page_of_probes_says_of_every_run() -> None:
    """Claims of the text that are no cell of a table."""
    arms = {arm.name: arm for arm in results_of(PROBES).arms}
    for name in ("softmax", "softmax-morlet"):
        assert min(arms[f"{name}-induction"].losses("accuracy")) > 0.99
    for name in ("krause", "krause-top8"):
        assert max(arms[f"{name}-induction"].losses("accuracy")) < 0.4
    gated = arms["softmax-gate-induction"].losses("accuracy")
    assert [f"{x:.2f}" for x in gated] == ["0.99", "0.79", "0.45"]
    long = {n: a.mean("accuracy@long") for n, a in arms.items() if n.endswith("-copying")}
    assert max(long.values()) == long["krause-top8-copying"] < 0.6
    found = sweep(results_of(PROBES))
    assert found is not None
    assert sum(row[-1] == "at the edge" for row in found.rows) == 23


def test_the_page_of_sinks_is_that_of_its_numbers(tmp_path: Path) -> None:
    found, document = read_sinks(RESULTS / "sinks-smollm2.json"), (RESULTS / "llama.md").read_text()
    for heading, grid in sink_tables(found).items():
        assert as_markdown(grid, heading).strip() in document
    losses = {(each["window"], each["first"]): each["loss"] for each in found["windows"]}
    readme = (ROOT / "README.md").read_text()
    for first, words in ((0, "loses {:.2f} nats"), (1, "first=1)`) {:.2f}")):
        assert words.format(losses[64, first] - losses[None, 0]) in readme
    for path in write_pictures(found, tmp_path):
        committed = PICTURES / f"sinks-{path.name}"
        assert drawn(path.read_text()) == drawn(committed.read_text())


def test_what_a_token_costs_is_that_of_its_numbers() -> None:
    numbers = json.loads((RESULTS / "prices-smollm2.json").read_text())
    document = (RESULTS / "llama.md").read_text()
    tables = price_tables(numbers)
    for heading, grid in tables.items():
        assert as_markdown(grid, heading).strip() in document
    _, memory, losses = tables.values()
    full, near, kept, *krause = (row[1:] for row in losses.rows)
    assert [round(float(a) - float(b), 2) for a, b in zip(kept, full, strict=True)][::4] == [
        0.05,
        0.64,
    ]
    gains = [float(a) - float(b) for a, b in zip(near, kept, strict=True)]
    assert (round(min(gains), 2), round(max(gains), 2)) == (0.53, 0.75)
    behind = [float(a) - float(b) for each in krause for a, b in zip(each, full, strict=True)]
    assert (round(min(behind), 1), round(max(behind), 1)) == (3.9, 5.3)
    prices = {(e["way"], e["context"]): e["tokens_per_second"] for e in numbers["prices"]}
    kept_name = losses.rows[2][0]
    taken = [prices["all keys", n] / prices[kept_name, n] for n in (256, 4096)]
    assert [round(x, 2) for x in taken] == [1.21, 0.87]
    assert memory.rows[0][-1] == "188.7"


def test_what_the_page_of_phases_says_of_probes() -> None:
    """Claims of the text that are no cell of its tables, and what the README quotes."""
    readme = (ROOT / "README.md").read_text()
    wiki = {arm.name: arm.mean("test_loss") for arm in results_of("phases-enwik8").arms}
    assert f"is {wiki['kuramoto-oscillators'] - wiki['softmax']:.3f} nats a byte behind" in readme
    arms = {arm.name: arm for arm in results_of("phase-probes").arms}
    for name in ("successors", "kernel"):
        assert min(arms[f"kuramoto-{name}-induction"].losses("accuracy")) > 0.999
    induced, copied = (arms[f"kuramoto-kernel-{a}"].mean("accuracy") for a in ABILITIES)
    assert f"at\nonce ({induced:.3f}) and copy ({copied:.3f};" in readme
    kernel, softmax = (arms[f"{n}-copying"] for n in ("kuramoto-kernel", "softmax"))
    versus = paired_difference(kernel.losses("test_loss"), softmax.losses("test_loss"))
    assert versus.half_width is not None
    page = cells((RESULTS / "phases.md").read_text())
    for each in (kernel, softmax):
        assert f"{each.mean('test_loss'):.4f}" in page
    assert f"{-versus.mean:.3f} +- {versus.half_width:.3f}" in page
    without = [n for n in arms if n.endswith("-induction") and n.startswith("kuramoto")]
    without = [n for n in without if "successors" not in n and "kernel" not in n]
    assert max(arms[name].mean("accuracy") for name in without) < 0.55


def test_the_report_can_be_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the archive, as the page says, and from a folder that it was unpacked into."""
    archive = shutil.copy(RESULTS / f"{PHASES}.zip", tmp_path)
    assert main(["report", str(archive)]) == 0
    assert "+0.0977 ± 0.0321" in capsys.readouterr().out
    page = (tmp_path / PHASES / "report.html").read_text()
    assert "Learning rates" in page
    unpack(Path(archive), tmp_path / "again")
    assert main(["report", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "report.html").read_text()
    assert again.replace(str(tmp_path / "again"), str(archive)) == page


@pytest.mark.parametrize("archive", sorted(RESULTS.glob("*.zip")), ids=lambda path: path.stem)
def test_archives_are_as_pack_writes_them(archive: Path, tmp_path: Path) -> None:
    """Packed again they are the same to the byte; none is large."""
    count, left = pack(folder_of(archive.stem), tmp_path / archive.name)
    assert (tmp_path / archive.name).read_bytes() == archive.read_bytes()
    assert left == []
    assert count == len(list(folder_of(archive.stem).rglob("done.json")))
    assert archive.stat().st_size < 1_000_000
