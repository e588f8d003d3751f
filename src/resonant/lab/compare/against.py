"""Finished runs of another comparison beside one's own: of the same data, seeds and budget."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...files import fault, write_atomically
from ..kit.config import RunConfig, config_hash, differences
from ..kit.contents import read_config
from ..kit.folder import DONE
from ..kit.results import ArmResult, gather, run_name
from .folders import as_json, filled, is_done
from .plan import Plan

OWN = "training.learning_rate"  # each arm's own: no part of the budget


@dataclass(frozen=True)
class Beside:
    """An arm of another comparison, ``name`` in ours; ``same`` where our arm is the very same."""

    arm: ArmResult
    name: str
    same: bool

    @property
    def flops(self) -> float | None:
        """FLOPs a token, which are the same on every machine."""
        return None if self.arm.cost is None else self.arm.cost["flops_per_token"]


@dataclass(frozen=True)
class Against:
    """The comparison in ``directory``, given as ``name``: arms to stand beside ours, others."""

    name: str
    directory: Path
    arms: tuple[Beside, ...]
    left_out: tuple[str, ...]

    @property
    def others(self) -> list[Beside]:
        """The arms that are none of ours."""
        return [each for each in self.arms if not each.same]

    def described(self) -> dict[str, Any]:
        """What the description of a comparison says of it."""
        flops = {each.name: each.flops for each in self.others if each.flops is not None}
        return {"name": self.name, "arms": [each.name for each in self.arms], "flops": flops}

    def described_arms(self) -> list[dict[str, Any]]:
        """Its arms that are none of ours, as the description of a comparison names arms."""
        names = {each.arm.name: each.name for each in self.arms}
        return [
            {
                "name": each.name,
                "says": each.arm.says,
                "control": names.get(each.arm.control or ""),
                "changes": each.arm.changes,
            }
            for each in self.others
        ]

    def runs(self) -> list[str]:
        """The folders, in ours, of runs that are none of ours."""
        return [f"{each.name}-seed{run['seed']}" for each in self.others for run in each.arm.runs]


def read_against(directory: Path, given: Path, plan: Plan) -> Against:
    """Read the comparison in ``directory``, ``given`` as a folder or file, to stand beside ours.

    An arm of the name of ours that is another is called NAME@GIVEN beside it.

    Raises ``UserError`` where it has other units or seeds, and where no arm of it is of the data
    and the budget of ours: differences are paired.
    """
    results = gather(directory)
    for name, theirs, ours in (
        ("unit", results.unit, plan.experiment.unit),
        ("token", results.token, plan.experiment.token),
    ):
        if theirs != ours:
            raise _refused(given, f"its {name} is {theirs!r}, here it is {ours!r}")
    beside, left_out, reason = [], [], ""
    for arm in results.arms:
        _check_seeds(arm, given, plan)
        values = filled(read_config(directory / run_name(arm.runs[0])))
        reasons = [_difference(values, run) for run in plan.runs]
        if all(reasons):
            left_out.append(arm.name)
            reason = reason or f"{arm.name} has {min(each for each in reasons if each)}"
            continue
        hashes = {run.seed: config_hash(run) for run in plan.runs if run.arm == arm.name}
        same = bool(hashes) and all(run["hash"] == hashes[run["seed"]] for run in arm.runs)
        name = f"{arm.name}@{_word(given.stem)}" if hashes and not same else arm.name
        beside.append(Beside(arm, name, same))
    if not beside:
        raise _refused(given, reason)
    return Against(given.name, directory, tuple(beside), tuple(left_out))


def adopt_runs(against: Against, plan: Plan) -> None:
    """Copy its runs into the folder of ``plan``, where they count as finished.

    So do those of an arm that is the very same as one of ours, instead of being trained.
    """
    ours = {run.name: run for run in plan.runs}
    for each in against.arms:
        for run in each.arm.runs:
            target = plan.out / f"{each.name}-seed{run['seed']}"
            mine = ours.get(target.name)
            if mine is not None and is_done(target, mine):
                continue
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(against.directory / run_name(run), partial)
            content = json.dumps({**run, "arm": each.name}, indent=2).encode()
            write_atomically(partial / DONE, content, "adopted")
            shutil.rmtree(target, ignore_errors=True)
            fault("run-adopted")
            os.replace(partial, target)


def _word(stem: str) -> str:
    """Make a file's name part of an arm's name, which names folders and members of archives."""
    return re.sub(r"[^\w.+=-]+", "-", stem)


def _check_seeds(arm: ArmResult, given: Path, plan: Plan) -> None:
    theirs, ours = {run["seed"] for run in arm.runs}, {run.seed for run in plan.runs}
    if theirs != ours:
        words = [", ".join(map(str, sorted(seeds))) for seeds in (theirs, ours)]
        said = f"the seeds of {arm.name} are {words[0]}, here they are {words[1]}"
        raise _refused(given, said, f"--seeds {len(theirs)}")


def _difference(values: dict[str, Any], ours: RunConfig) -> str:
    """How the data or the budget of a run differ from ours, in words; empty where they do not."""
    wanted = as_json(ours)
    parts = ("data", "training", "corpus")
    old, new = ({part: each.get(part) for part in parts} for each in (values, wanted))
    for name, theirs, mine in differences(old, new):
        if name == "corpus":
            return "data of another hash"
        if name != OWN:
            return f"{name} {theirs}, here {mine}"
    return ""


def _refused(given: Path, why: str, move: str = "") -> UserError:
    also = f"pass {move}, or give" if move else "give the same data and budget, or"
    return UserError(
        f"--against {given} cannot stand beside this comparison: {why}; {also} another archive"
    )
