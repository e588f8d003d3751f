"""The table of mechanisms by abilities says what the runs say."""

import json
from pathlib import Path

import pytest

from resonant.lab.abilities.tables import BETTER, WORSE, ability_tables
from resonant.lab.kit.metrics import COLUMNS, Metrics
from resonant.lab.kit.results import gather

from ..running import FINISHED

SCORES = {
    "softmax-recall": [0.90, 0.92, 0.91],
    "krause-recall": [0.80, 0.83, 0.81],
    "clock-alignment": [0.7, 0.7, 0.71],
    "softmax-alignment": [0.2, 0.21, 0.2],
    "softmax-gate-recall": [0.80, 0.99, 0.95],
}


def comparison(out: Path, seeds: int = 3) -> Path:
    runs, arms = [], []
    for arm, scores in SCORES.items():
        arms.append({"name": arm, "says": arm, "control": None, "changes": ""})
        for seed in range(seeds):
            folder = out / f"{arm}-seed{seed}"
            folder.mkdir(parents=True)
            runs.append(folder.name)
            metrics = Metrics(folder / "metrics.csv")
            metrics.write(dict.fromkeys(COLUMNS, 1.0) | {"step": 20.0})
            metric = "correct@1" if "alignment" in arm else "accuracy"
            long = f"{metric.partition('@')[0]}@long"
            found = {"test_loss": 1.0, "valid_loss": 1.0, metric: scores[seed], long: 0.5}
            done = FINISHED | {"arm": arm, "seed": seed, "metrics": found}
            (folder / "done.json").write_text(json.dumps(done))
            (folder / "config.yaml").write_text("data: {name: recall}")
    described = {"experiment": "probes", "says": "", "data": "", "arms": arms, "runs": runs}
    described |= {"ceilings": {}, "scores": {"recall": "accuracy", "alignment": "correct@1"}}
    (out / "comparison.json").write_text(json.dumps(described))
    return out


def test_cells_are_means_with_intervals_and_marks(tmp_path: Path) -> None:
    trained, long = ability_tables(gather(comparison(tmp_path))).values()
    assert trained.columns == ("arm", "recall", "alignment")
    rows = {row[0]: row[1:] for row in trained.rows}
    # t(2) = 4.303 times the standard error of three values a hundredth apart.
    assert rows["softmax"] == ["0.910 ± 0.025", "0.203 ± 0.014"]
    assert rows["krause"] == [f"0.813 ± 0.038 {WORSE}", ""]
    assert rows["clock"] == ["", f"0.703 ± 0.014 {BETTER}"]
    assert not rows["softmax-gate"][0].endswith((BETTER, WORSE))
    assert {cell.split()[0] for row in long.rows for cell in row[1:] if cell} == {"0.500"}


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    table = next(iter(ability_tables(gather(comparison(tmp_path, seeds=1))).values()))
    assert [cell for row in table.rows for cell in row[1:] if "±" in cell] == []


def test_no_scores_no_table(tmp_path: Path) -> None:
    out = comparison(tmp_path)
    described = json.loads((out / "comparison.json").read_text())
    (out / "comparison.json").write_text(json.dumps(described | {"scores": {}}))
    assert ability_tables(gather(out)) == {}
    with pytest.raises(KeyError):
        gather(out).arms[0].losses("accuracy@nowhere")
