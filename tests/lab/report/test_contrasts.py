"""Contrasts, losses by position and learned numbers: from what runs left to tables and figures."""

import itertools
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resonant.errors import UserError
from resonant.lab.kit.metrics import Metrics
from resonant.lab.kit.results import gather
from resonant.lab.report.learned import encoding_length, learned_tables, morlet_figure
from resonant.lab.report.table import contrasts
from resonant.lab.text.figures import gap_curves, position_curves, position_edges

from ..running import FINISHED

LOSSES = {
    "plain": [2.0, 2.1, 2.3],
    "gate": [1.9, 2.05, 2.1],
    "morlet": [2.2, 2.2, 2.6],
    "both": [1.8, 1.9, 2.1],
}
OMEGA, SIGMA = [1.0, 3.0], [5.0, 2.0]


def folder(out: Path, **more: Any) -> Path:
    """A comparison's folder as the workers leave it."""
    runs, arms = [], []
    for arm, losses in LOSSES.items():
        arms.append({"name": arm, "says": arm, "control": None, "changes": ""})
        for seed, loss in enumerate(losses):
            directory = out / f"{arm}-seed{seed}"
            directory.mkdir(parents=True)
            runs.append(directory.name)
            metrics = Metrics(directory / "metrics.csv")
            row = {"train_loss": loss, "valid_loss": loss, "learning_rate": 0.1, "seconds": 1.0}
            metrics.write({"step": 1.0, **row})
            learned: dict[str, list[float]] = {}
            if arm in ("gate", "both"):
                learned["blocks.0.attention.gate.alpha"] = [2.0 + seed, 1.0]
                learned["blocks.0.attention.gate.tau"] = [0.0, -0.5]
            start = dict(learned)
            if arm in ("morlet", "both"):
                start |= {"position.omega": OMEGA, "position.sigma": SIGMA}
                learned |= {"position.omega": OMEGA, "position.sigma": [5.0, 200.0 + seed]}
            done = FINISHED | {
                "steps": 1,
                "arm": arm,
                "seed": seed,
                "parameters": 10,
                "attention_parameters": 1,
                "metrics": {"valid_loss": loss, "test_loss": loss},
                "loss_by_position": [loss + 1.0 / t for t in range(1, 17)],
                "learned_numbers": {"start": start, "end": learned},
            }
            (directory / "done.json").write_text(json.dumps(done))
            (directory / "config.yaml").write_text("data: {name: stdlib}")
    described = {"experiment": "trial", "says": "", "data": "", "arms": arms, "runs": runs}
    described |= {"ceilings": {}, **more}
    (out / "comparison.json").write_text(json.dumps(described))
    return out


def test_pairs_and_interactions(tmp_path: Path) -> None:
    pairs = (["both", "morlet"], ["gate", "plain"])
    out = folder(
        tmp_path / "a",
        compared=[["both", "gate"], ["gate", "plain"]],
        interactions=[pairs],
        published=[["gate", "plain", -0.092]],
    )
    published, compared, interaction = gather(out).contrasts
    assert (published.name, published.published) == ("gate - plain", -0.092)
    assert (compared.name, compared.published) == ("both - gate", None)
    each = [
        (LOSSES["both"][i] - LOSSES["morlet"][i]) - (LOSSES["gate"][i] - LOSSES["plain"][i])
        for i in range(3)
    ]
    assert interaction.difference.mean == pytest.approx(statistics.fmean(each))
    half = 4.302653 * statistics.stdev(each) / math.sqrt(3)
    assert interaction.difference.half_width == pytest.approx(half, rel=1e-5)
    table = contrasts(gather(out))
    assert table is not None
    assert table.columns[-1] == "published"
    assert table.rows[0][-1] == "-0.092"
    assert table.rows[2][0] == "(both - morlet) - (gate - plain)"
    assert all(len(row) == len(table.columns) for row in table.rows)
    none = contrasts(gather(folder(tmp_path / "b", compared=[["both", "gate"]])))
    assert none is not None
    assert "published" not in none.columns
    with pytest.raises(UserError, match="is not finished"):
        gather(_without(out, "gate-seed1"))


def _without(out: Path, run: str) -> Path:
    (out / run / "done.json").unlink()
    return out


def test_losses_by_position_beside_a_floor_and_beside_the_first_arm(tmp_path: Path) -> None:
    relative = position_curves(gather(folder(tmp_path / "a")))
    assert "minus that of plain" in relative
    assert ">gate<" in relative
    assert ">plain<" not in relative
    absolute = position_curves(gather(folder(tmp_path / "b", floor=1.5)))
    assert "test loss (nats per token)" in absolute
    assert ">plain<" in absolute
    out = folder(tmp_path / "c", floor=1.5)
    path = out / "gate-seed1" / "done.json"
    done = json.loads(path.read_text())
    del done["loss_by_position"]
    path.write_text(json.dumps(done))
    assert position_curves(gather(out)) == ""


def test_gaps_by_step_are_paired_by_seed(tmp_path: Path) -> None:
    out = folder(tmp_path / "a")
    assert gap_curves(gather(out)) == ""  # one evaluation is no curve
    for arm, losses in LOSSES.items():
        for seed, loss in enumerate(losses):
            metrics = Metrics(out / f"{arm}-seed{seed}" / "metrics.csv")
            for step in (1.0, 2.0):
                row = {"train_loss": loss, "learning_rate": 0.1, "seconds": step}
                metrics.write({"step": step, "valid_loss": loss + 10.0 * seed / step, **row})
    drawn = gap_curves(gather(out))
    assert "validation loss minus that of plain" in drawn
    assert ">gate<" in drawn
    assert ">plain<" not in drawn
    # What all arms of a seed share is not in the difference: no tick near 10.
    assert ">10" not in drawn


@pytest.mark.parametrize("length", [1, 2, 3, 8, 100, 128])
def test_blocks_of_positions_cover_each_once(length: int) -> None:
    edges = position_edges(length)
    assert edges[0] == 0
    assert edges[-1] == length
    assert all(b > a for a, b in itertools.pairwise(edges))
    if length >= 8:
        assert edges[:7] == [0, 1, 2, 3, 4, 6, 8]


def test_what_was_learned(tmp_path: Path) -> None:
    results = gather(folder(tmp_path / "a"))
    tables = learned_tables(results)
    gates, morlet = tables["Gates"].rows, tables["Morlet positions"].rows
    assert gates[0] == ["gate", "2.00", "1.00", "4.00", "-0.25", "-0.50", "0.00"]
    assert [row[0] for row in morlet] == ["morlet", "both"]
    assert morlet[0][1:5] == ["2.00 to 5.00", "5.00 to 202.00", "1.00 to 3.00", "1.00 to 3.00"]
    # |PE(t)| / |PE(0)| < 1 % from where exp(-t^2 / 25) / 2 < 1e-4: t = 5 sqrt(ln 5000) = 14.6
    assert morlet[0][5] == "15.0"
    # exp(-t^2 / 201^2) / 2 < 1e-4 from t = 201 sqrt(ln 5000) = 586.6 on
    assert float(morlet[0][6]) == pytest.approx(587, abs=1)
    assert "at start" in morlet_figure(results)
    assert encoding_length(np.array([3.0]), 4)[3] == pytest.approx(math.exp(-0.5))


def test_nothing_is_shown_of_what_nobody_learned(tmp_path: Path) -> None:
    out = folder(tmp_path / "a")
    for path in out.glob("*/done.json"):
        done = json.loads(path.read_text())
        del done["learned_numbers"]
        path.write_text(json.dumps(done))
    assert learned_tables(gather(out)) == {}
    assert morlet_figure(gather(out)) == ""
