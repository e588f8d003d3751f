"""A comparison of one's own written down in its folder, and read back from there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import damaged, write_atomically
from ..kit.contents import read_held
from ..kit.grid import Grid
from ..kit.results import mixed
from .checks import PLAIN, as_read
from .comparison import Comparison, OwnRun
from .folder import COMPARISON, HELD_COMPARISON, HELD_SCORES, SCORES
from .results import Compared

HERE = "{} runs were made in the process that compares, one after the other (workers=0)."


def describe(
    comparison: Comparison,
    runs: Sequence[OwnRun],
    out: Path,
    *,
    swept: Sequence[dict[str, Any]] = (),
    failed: Mapping[str, str],
) -> None:
    """Write down what the comparison is and which runs are its own."""
    said = {
        "says": comparison.says,
        "arms": [{"name": n, "says": _short(v)} for n, v in comparison.arms.items()],
        "control": comparison.control_name,
        "seeds": comparison.seed_list,
        "better": dict(comparison.better),
        "chosen": {run.arm: _as_read(run.chosen) for run in runs},
        "folders": [{"arm": run.arm, "seed": run.seed, "name": run.name} for run in runs],
        "choose_by": comparison.choose_by,
        "swept": [row | {"values": _as_read(row["values"])} for row in swept],
        "failed": dict(failed),
    }
    content = json.dumps(said, indent=2).encode()
    write_atomically(out / COMPARISON, content, "comparison")


def read_scores(folder: Path) -> dict[str, Any] | None:
    """What a finished run left, or None."""
    path = folder / SCORES
    return read_held(path, HELD_SCORES) if path.is_file() else None


def read_compared(out: Path) -> Compared:
    """Read a comparison of one's own from its folder.

    Raises ``UserError`` for a folder that is damaged, or in which no run is finished.
    """
    said = read_held(out / COMPARISON, HELD_COMPARISON)
    _check(out / COMPARISON, said)
    scores: dict[str, dict[int, dict[str, float]]] = {each["name"]: {} for each in said["arms"]}
    made: list[list[dict[str, str]]] = []
    here = 0
    for each in said["folders"]:
        done = None if each["name"] in said["failed"] else read_scores(out / each["name"])
        if done is not None:
            if (done["arm"], done["seed"]) != (each["arm"], each["seed"]):
                raise damaged(out / each["name"] / SCORES, f"it is of the arm {done['arm']!r}")
            scores[each["arm"]][each["seed"]] = done["metrics"]
            here += done.get("here", False)
            made.append(done.get("made_with", [{}]))
    if not any(scores.values()):
        raise UserError(
            f"no run in {out} has scores"
            + "".join(f"; {each}" for each in [*said["failed"].values()][:3])
            + "; mend it and call the same again"
        )
    from .page import write_page

    return Compared(
        out,
        said["says"],
        scores,
        said["control"],
        said["seeds"],
        said["better"],
        write_page,
        said["failed"],
        [*([HERE.format(here)] if here else []), *mixed(made)],
        _swept(said),
    )


def _check(path: Path, said: Mapping[str, Any]) -> None:
    """Raise ``UserError`` unless the parts of a description fit one another."""
    arms, seeds = [each["name"] for each in said["arms"]], said["seeds"]
    runs = sorted((each["arm"], each["seed"]) for each in said["folders"])
    if said["control"] not in arms or len(set(arms)) < len(arms):
        raise damaged(path, f"its control {said['control']!r} is none of its arms")
    if runs != sorted((arm, seed) for arm in arms for seed in set(seeds)):
        raise damaged(path, "its runs are not those of its arms and seeds")
    if len(set(seeds)) < len(seeds):
        raise damaged(path, "it names a seed twice")
    for each in said["folders"]:
        if Path(each["name"]).name != each["name"] or each["name"] in ("", ".", ".."):
            raise damaged(path, f"it names the run {each['name']!r}, which is no folder beside it")
    rows = said["swept"]
    names = {tuple(row["values"]) for row in rows} | {tuple(x) for x in said["chosen"].values()}
    plain = all(isinstance(x, PLAIN) for row in rows for x in row["values"].values())
    if rows and (len(names) > 1 or not plain or said["choose_by"] not in said["better"]):
        raise damaged(path, "its sweep is not one of plain values by a score that it names")


def _swept(said: Mapping[str, Any]) -> dict[str, Grid]:
    """The table of the sweep, if there was one."""
    rows = said.get("swept") or []
    if not rows:
        return {}
    names = [*rows[0]["values"]]
    best = said["chosen"]
    cells = []
    for row in rows:
        chosen = row["values"] == best.get(row["arm"])
        score = "failed" if row["score"] is None else f"{row['score']:.6g}"
        note = "chosen" + _edge(said, row) if chosen else ""
        cells.append([row["arm"], *(str(row["values"][n]) for n in names), score, note])
    legend = (
        f"{said['choose_by']} ({said['better'][said['choose_by']]} is better) under seed "
        f"{said['seeds'][0]} alone; all seeds were made with each arm's chosen values. At the "
        "edge: a better one may lie beyond those tried."
    )
    grid = Grid(("arm", *names, said["choose_by"], "note"), cells, legend)
    return {"Chosen on the validation split": grid}


def _edge(said: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Say which of a chosen run's numbers are the least or greatest of those tried."""
    found = []
    for name, value in row["values"].items():
        tried = {x["values"][name] for x in said["swept"]}
        numbers = all(type(x) in (int, float) for x in tried)
        if len(tried) > 1 and numbers and value in (min(tried), max(tried)):
            found.append(name)
    return f"; {', '.join(found)} at the edge" if found else ""


def _as_read(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: as_read(value) for name, value in values.items()}


def _short(value: Any) -> str:
    """An arm as it reads, on one line, without addresses in memory."""
    name = getattr(value, "__qualname__", None)
    said = " ".join((repr(value) if name is None else str(name)).split())
    return said if len(said) <= 100 else f"{said[:100]} ..."
