"""The page of a comparison of one's own: one HTML file that needs nothing else."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from ...files import write_atomically
from ..kit.contents import read_held
from ..kit.domain import Figure
from ..kit.folder import REPORT
from ..kit.svg import STYLE, as_svg, legend, line_style
from ..report.curves import Row, difference_rows
from ..report.page import Part, write_svgs
from ..report.render import fragment, render
from .folder import COMPARISON, HELD_COMPARISON, LOG
from .results import Compared
from .run import read_log

MOST_CURVES = 24  # figures of logged numbers
ANSWER = "Which is better, by how much, and how small an effect could have been seen"


def write_figures(found: Compared, target: Path, *, only: str | None = None) -> list[Path]:
    """Write the page's figures into ``target`` as SVG files, or the one called ``only``.

    Raises ``UserError`` for a figure that there is not.
    """
    said = read_held(found.out / COMPARISON, HELD_COMPARISON)
    figures = [*_differences(found), *_curves(found, _logs(found, said["folders"]))]
    return write_svgs({each.name: each.svg for each in figures}, target, only=only)


def write_page(found: Compared) -> Path:
    """Write the page of a comparison into its folder and return its path."""
    said = read_held(found.out / COMPARISON, HELD_COMPARISON)
    parts = [Part(ANSWER, {"": found.table}, _differences(found), "")]
    parts += [Part(name, {"": grid}, (), "") for name, grid in found.extra.items()]
    curves = _curves(found, _logs(found, said["folders"]))
    if curves:
        parts.append(Part("What runs logged", {}, curves, ""))
    arms = [SimpleNamespace(**each, control=None) for each in said["arms"]]
    parts.append(Part("Arms", {}, (), fragment("arms", arms)))
    page = render(
        "page.html",
        title=f"{len(found.arms)} arms, {len(found.seeds)} seeds each",
        results=SimpleNamespace(
            experiment=found.out.resolve().name, says=found.says or "a comparison of one's own"
        ),
        missed=[each.rstrip(".") for each in found.failed.values()],
        parts=parts,
        given=str(found.out),
    )
    path = found.out / REPORT
    write_atomically(path, page.encode(), "report")
    return path


def _differences(found: Compared) -> list[Figure]:
    """A figure for every score that the control and another arm have."""
    figures = []
    for metric in found.metrics:
        rows = []
        for place, arm in enumerate(found.arms):
            if arm != found.control and found.are_compared(arm, metric):
                seeds = [ours - theirs for ours, theirs in found.pairs(arm, metric)]
                difference = found.difference(arm, metric)
                rows.append(Row(arm, found.control, place, seeds, difference))
        way = {"lower": ": left is better", "higher": ": right is better"}
        label = f"difference of {_as_text(metric)}{way.get(found.better.get(metric, ''), '')}"
        caption = "Every seed (faint), mean and 95 % interval."
        taken = {each.name for each in figures}
        name = _as_file(f"difference-{metric}", taken)
        figures.append(Figure(name, difference_rows(rows, label), caption))
    return [each for each in figures if each.svg]


def _as_file(name: str, taken: Collection[str]) -> str:
    """A figure's name as that of a file, other than those that are taken."""
    plain = re.sub(r"[^\w.@=+-]", "_", name)[:80]
    again = (f"{plain}-{number}" for number in itertools.count(2))
    return plain if plain not in taken else next(each for each in again if each not in taken)


def _as_text(name: str) -> str:
    """A name as figures show it, in which $ begins no formula."""
    return name.replace("$", r"\$")


def _logs(
    found: Compared, folders: Sequence[Mapping[str, object]]
) -> dict[str, list[list[dict[str, float]]]]:
    """Rows that runs logged, a list a seed, by arm."""
    logs: dict[str, list[list[dict[str, float]]]] = {arm: [] for arm in found.arms}
    for each in folders:
        logs[str(each["arm"])].append(read_log(found.out / str(each["name"]) / LOG))
    return logs


def _curves(
    found: Compared, logs: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]
) -> list[Figure]:
    """A figure for every number that was logged: mean over seeds, and their band."""
    names = dict.fromkeys(
        name for runs in logs.values() for rows in runs for row in rows for name in row
    )
    names.pop("step", None)
    figures = []
    for name in [*names][:MOST_CURVES]:
        with mpl.rc_context(STYLE):
            figure, axes = plt.subplots(figsize=(7.5, 3.8))
            for place, arm in enumerate(found.arms):
                _draw(axes, _by_step(logs[arm], name), arm, line_style(place))
            axes.set_xlabel("step")
            axes.set_ylabel(_as_text(name))
            legend(axes, len(found.arms))
            svg = as_svg(figure)
        caption = f"{name}: mean over seeds; the band runs from the least to the greatest seed."
        figures.append(Figure(f"log-{len(figures)}", svg, caption))
    return figures


def _by_step(runs: Sequence[Sequence[Mapping[str, float]]], name: str) -> dict[float, list[float]]:
    """The finite values of a number by step, over seeds."""
    found: dict[float, list[float]] = {}
    for rows in runs:
        for row in rows:
            if math.isfinite(row.get(name, math.nan)):
                found.setdefault(row["step"], []).append(row[name])
    return dict(sorted(found.items()))


def _draw(
    axes: Any, values: Mapping[float, list[float]], arm: str, line: Mapping[str, Any]
) -> None:
    steps, each = [*values], [*values.values()]
    marker = "." if len(steps) == 1 else None
    axes.plot(steps, [statistics.fmean(x) for x in each], label=arm, marker=marker, **line)
    lows, highs = [min(x) for x in each], [max(x) for x in each]
    axes.fill_between(steps, lows, highs, color=line["color"], alpha=0.18, linewidth=0)
