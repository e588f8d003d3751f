"""The report: what the runs left, honestly said, in one file that needs nothing else."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab.kit.metrics import Metrics
from resonant.lab.kit.results import gather, missed_ceilings
from resonant.lab.report.curves import learning_curves
from resonant.lab.report.page import write_report
from resonant.lab.report.sections import print_tables
from resonant.lab.report.table import cost, quality

from ..running import FINISHED

LOSSES = {"softmax": [1.8, 1.9, 2.0], "krause": [1.7, 1.81, 1.9], "worse": [2.5, 1.2, 2.2]}


def comparison(out: Path, *, seeds: int = 3, ceilings: dict[str, float] | None = None) -> Path:
    """A comparison's folder as the workers leave it."""
    arms: list[dict[str, Any]] = []
    runs = []
    for arm, losses in LOSSES.items():
        control = None if arm == "softmax" else "softmax"
        arms.append({"name": arm, "says": f"<{arm}>", "control": control, "changes": "x = 1"})
        for seed in range(seeds):
            folder = out / f"{arm}-seed{seed}"
            folder.mkdir(parents=True)
            runs.append(folder.name)
            metrics = Metrics(folder / "metrics.csv")
            for step in (10, 20):
                row = {"train_loss": 2.0, "valid_loss": losses[seed] + 10 / step}
                metrics.write({"step": float(step), "learning_rate": 0.1, "seconds": 1.0, **row})
            done = FINISHED | {
                "arm": arm,
                "seed": seed,
                "parameters": 1000,
                "attention_parameters": 100,
                "metrics": {"valid_loss": losses[seed] - 0.1, "test_loss": losses[seed]},
                "prompt": "def <f>",
                "sample": "</pre><script>alert(1)</script>",
            }
            (folder / "done.json").write_text(json.dumps(done))
            (folder / "config.yaml").write_text("data: {name: stdlib}")
        keep_at_work(out / f"{arm}-seed0", gated=arm == "krause")
    described = {
        "experiment": "trial",
        "says": "a trial",
        "data": "text",
        "arms": arms,
        "runs": runs,
        "ceilings": ceilings or {},
    }
    (out / "comparison.json").write_text(json.dumps(described))
    cost = {"flops_per_token": 8e5, "tokens_per_second": 4e4, "peak_bytes": 2e7}
    (out / "probe.json").write_text(json.dumps({"costs": dict.fromkeys(LOSSES, cost)}))
    return out


def keep_at_work(folder: Path, *, gated: bool) -> None:
    """What a run keeps of its model at work."""
    random = np.random.default_rng(0)
    numbers = ("residual", "clusters", "token_cosine", "effective_rank", "sink_share")
    found = {name: random.random(2) for name in (*numbers, "uniform_sink")}
    found |= {name: random.random((2, 4)) for name in ("entropy", "sink")}
    found |= {"weights": random.random((2, 4, 8, 8)), "layers": np.array(["a.0", "a.1"])}
    found["tokens"] = np.array(list("<b>a &x\n"))
    if gated:
        found |= {"gated": np.array(["a.1"]), "gates": random.random((1, 4, 8))}
        found |= {"gates_shut": np.array([0.25]), "order": random.random((3, 4))}
    np.savez(folder / "diagnosis.npz", **found)  # type: ignore[arg-type]
    names = ("step", "a.0.sigma[0]", "a.0.sigma[1]", "a.1.sigma[0]", "a.1.sigma[1]")
    learned = Metrics(folder / "learned.csv", columns=names)
    for step in (0, 10, 20):
        learned.write({"step": float(step)} | {name: 2.0 + step / 100 for name in names[1:]})


def test_the_table_says_what_was_measured(tmp_path: Path) -> None:
    results = gather(comparison(tmp_path))
    softmax, krause, worse = quality(results).rows
    assert softmax == ["softmax", "1.9000", "1.8000", "", "", "", ""]
    assert krause[:2] == ["krause", "1.8033"]
    assert krause[3] == "softmax"
    assert re.fullmatch(r"-0\.0967 ± 0\.0143", krause[4])
    assert krause[5] == "lower"
    assert worse[5] == "no difference shown"
    assert float(worse[6]) > 1
    assert cost(results).rows[1] == [
        "krause",
        "1,000 (100)",
        "2.00M",
        "0.004",
        "800",
        "40,000",
        "20",
    ]


def test_two_seeds_are_too_few(tmp_path: Path) -> None:
    _, krause, _ = quality(gather(comparison(tmp_path, seeds=2))).rows
    assert krause[4:7] == ["-0.0950", "too few seeds", ""]


def test_the_table_fits_where_there_is_no_terminal(tmp_path: Path) -> None:
    stream = io.StringIO()
    print_tables(gather(comparison(tmp_path)), Console(file=stream))
    lines = [line for line in stream.getvalue().splitlines() if "krause" in line]
    assert len(lines) == 2, "a row of the two tables is broken over lines"


class Page(HTMLParser):
    """Tags that stand open, and everything the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts = 0
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.headings += [tag] if tag in ("h1", "h2", "svg") else []
        for name, value in attrs:
            if name in ("src", "href") and not (value or "").startswith(("data:", "#")):
                self.fetched.append(value or "")


def test_the_page_needs_nothing_else_and_escapes_what_models_write(tmp_path: Path) -> None:
    path = write_report(gather(comparison(tmp_path)), tmp_path)
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.fetched == []
    assert page.scripts == 0
    assert page.headings.count("svg") == 10  # six drawn, maps of three arms, budget
    assert "&lt;/pre&gt;&lt;script&gt;" in text
    assert "url(http" not in text
    assert path.stat().st_size < 200_000
    assert 'name="viewport"' in text
    assert "prefers-color-scheme" in text or "color-scheme: light dark" in text


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    results = gather(comparison(tmp_path))
    first = write_report(results, tmp_path).read_bytes()
    assert write_report(results, tmp_path).read_bytes() == first


def test_missed_ceilings_are_said(tmp_path: Path) -> None:
    results = gather(comparison(tmp_path, ceilings={"*": 1.95, "krause": 1.5}))
    assert missed_ceilings(results) == [
        "krause ends at 1.803 nats per token, not below 1.5",
        "worse ends at 1.967 nats per token, not below 1.95",
    ]
    assert "Failed: krause ends at 1.803" in write_report(results, tmp_path).read_text()


def test_an_unfinished_comparison_is_said(tmp_path: Path) -> None:
    comparison(tmp_path)
    (tmp_path / "krause-seed1" / "done.json").unlink()
    with pytest.raises(UserError, match="krause-seed1 is not finished; run the same"):
        gather(tmp_path)


def test_the_command_writes_it_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").is_file()
    assert "report.html" in capsys.readouterr().out


def test_more_arms_than_colours_differ_by_their_dashes(tmp_path: Path) -> None:
    results = gather(comparison(tmp_path))
    many = dataclasses.replace(
        results,
        arms=[dataclasses.replace(results.arms[i % 3], name=f"arm-{i}") for i in range(10)],
    )
    few, all_ten = (learning_curves(each) for each in (results, many))
    assert all(name in all_ten for name in (f"arm-{i}" for i in range(10)))
    assert "stroke-dasharray" not in few
    assert "stroke-dasharray" in all_ten


def test_a_figure_for_everything_that_runs_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = comparison(tmp_path / "runs"), tmp_path / "figures"
    assert main(["report", str(out), "--figures", str(figures)]) == 0
    names = {path.stem for path in figures.iterdir()}
    assert names >= {"curves", "budget", "learned", "depth", "order", "maps-krause", "differences"}
    page = (out / "report.html").read_text()
    for name in names:
        assert f"resonant report {out} --figures figures --only {name}" in page
    one = tmp_path / "one"
    assert main(["report", str(out), "--figures", str(one), "--only", "depth"]) == 0
    assert [path.name for path in one.iterdir()] == ["depth.svg"]
    assert (one / "depth.svg").read_text() == (figures / "depth.svg").read_text()
    assert main(["report", str(out), "--figures", str(one), "--only", "dept"]) == 2
    assert "no figure here is called 'dept'; did you mean 'depth'" in capsys.readouterr().err
    assert main(["report", str(out), "--only", "depth"]) == 2
    assert "give both" in capsys.readouterr().err


def test_gates_stand_under_their_tokens(tmp_path: Path) -> None:
    out = comparison(tmp_path)
    gates = np.load(out / "krause-seed0" / "diagnosis.npz")["gates"][0].mean(0)
    page = write_report(gather(out), out).read_text()
    spans = re.findall(r'<span style="--gate:([\d.]+)" title="[\d.]+">(.*?)</span>', page, re.S)
    assert [float(gate) for gate, _ in spans] == [round(float(g), 2) for g in gates]
    assert [text for _, text in spans] == ["&lt;", "b", "&gt;", "a", " ", "&amp;", "x", "\n"]
    assert "25 %" in page


def test_a_damaged_diagnosis_is_named(tmp_path: Path) -> None:
    out = comparison(tmp_path)
    (out / "krause-seed0" / "diagnosis.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"diagnosis\.npz"):
        write_report(gather(out), out)


def test_runs_that_kept_nothing_have_no_such_figures(tmp_path: Path) -> None:
    out = comparison(tmp_path)
    for path in [*out.rglob("diagnosis.npz"), *out.rglob("learned.csv"), out / "probe.json"]:
        path.unlink()
    page = write_report(gather(out), out).read_text()
    for heading in ("with depth", "Where attention looks", "over training", "Gates over"):
        assert heading not in page
