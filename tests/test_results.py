"""Numbers in the documents are those of the committed runs."""

import re
import shutil
from pathlib import Path

import pytest

from resonant.cli.main import main
from resonant.experiments import EXPERIMENTS
from resonant.report.results import gather
from resonant.report.table import quality, sweep
from resonant.training.configs import config_hash, run_config

ROOT = Path(__file__).parent.parent
PHASES = ROOT / "docs" / "results" / "phases"


def cells(text: str) -> set[str]:
    """Every number of a document, and every ``a +- b``."""
    plain = text.replace("**", "").replace("±", "+-")
    found = re.findall(r"[+-]?\d+\.\d+(?: \+- \d+\.\d+)?", plain)
    return {each.lstrip("+") for each in found}


def test_the_tables_of_phases_are_those_of_its_runs() -> None:
    results = gather(PHASES)
    document = cells((PHASES.parent / "phases.md").read_text())
    swept = sweep(results)
    assert swept is not None
    rows = [row[1:] for row in (*quality(results).rows, *swept.rows)]
    numbers = {n for row in rows for cell in row for n in cells(cell)}
    assert len(numbers) > 15
    assert numbers <= document, numbers - document
    assert results.seeds == 3


def test_the_readme_quotes_them() -> None:
    arms = {arm.name: arm for arm in gather(PHASES).arms}
    kuramoto = arms["kuramoto"]
    assert kuramoto.difference is not None
    assert kuramoto.difference.half_width is not None
    readme = cells((ROOT / "README.md").read_text())
    for number in (arms["softmax"].mean("test_loss"), kuramoto.mean("test_loss")):
        assert f"{number:.3f}" in readme
    quoted = f"{kuramoto.difference.mean:.3f} +- {kuramoto.difference.half_width:.3f}"
    assert quoted in readme


def test_the_runs_are_those_of_the_experiment() -> None:
    """Every run has the hash that the command beside the table would give it today."""
    import json

    import yaml

    experiment = EXPERIMENTS["shakespeare"]
    described = sorted(PHASES.rglob("config.yaml"))
    assert len(described) == 9 + 12
    for path in described:
        config = run_config(yaml.safe_load(path.read_text()))
        done = json.loads((path.parent / "done.json").read_text())
        assert done["hash"] == config_hash(config)
        rate = {"training.learning_rate": config.training.learning_rate, "training.steps": 2000}
        ours = experiment.config(experiment.base, experiment.arm(config.arm), config.seed, rate)
        assert ours == run_config({**yaml.safe_load(path.read_text()), "corpus": ours.corpus}), path


def test_the_report_can_be_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "phases"
    shutil.copytree(PHASES, copy)
    assert main(["report", str(copy)]) == 0
    assert "+0.0977 ± 0.0321" in capsys.readouterr().out
    assert "Learning rates" in (copy / "report.html").read_text()
