"""Options that change no arm, say nothing, or belie what arms are called, are refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import UserError, nearest
from ...models.fields import KNOWN, READ, fixed_options, options
from ..domains import domain_of
from ..kit.config import RunConfig, flatten, plain
from ..kit.experiment import Arm, Experiment


def check_options(
    arms: Sequence[Arm], runs: Sequence[RunConfig], overrides: Mapping[str, Any]
) -> None:
    """Raise ``UserError`` for the first of ``overrides`` that is not what the user may think.

    ``runs`` are those of ``arms`` under one seed.
    """
    _check_read_in_training(runs, overrides)
    _check_what_arms_are_about(arms, runs, overrides)
    _check_conditions(runs, overrides)
    by_arm = {run.arm: plain(run) for run in runs}
    for option, value in overrides.items():
        fields = flatten({option: value})
        if not any(flat.get(name) == v for flat in by_arm.values() for name, v in fields.items()):
            raise UserError(
                f"--{option} changes none of these arms: {', '.join(by_arm)}; it is what other "
                f"arms are about (see `resonant list {runs[0].experiment}`), or use `resonant "
                "train`, which takes any field of its arm"
            )
    _check_alike(arms, by_arm)


def check_names(
    experiment: Experiment, runs: Sequence[RunConfig], overrides: Mapping[str, Any]
) -> None:
    """Refuse an unknown gate before hours of other arms, where no plugin can bring it.

    So for every option that a plugin may add to (``fields.open_choice``); the plugins of the
    experiment brought those that its arms have.
    """
    for option, value in overrides.items():
        known = {name for run in runs for name in _known(run, option)}
        if not known:
            continue
        known |= {arm.changes[option] for arm in experiment.arms if option in arm.changes}
        if value is not None and value not in known:
            what = option.rpartition(".")[2]
            raise UserError(
                f"no {what} is called {value!r}; {nearest(str(value), sorted(known))} (one of your "
                "own needs --plugins)"
            )


def _known(run: RunConfig, option: str) -> Sequence[str]:
    found = options(run.model, "model")
    return next((each.metadata.get(KNOWN, ()) for name, each, _ in found if name == option), ())


def _check_read_in_training(runs: Sequence[RunConfig], overrides: Mapping[str, Any]) -> None:
    unread = [domain_of(run).unread for run in runs]
    for option in overrides:
        if all(option in each for each in unread):
            raise UserError(
                f"--{option} is read by none of these arms{unread[0][option]}; leave it out"
            )


def _check_what_arms_are_about(
    arms: Sequence[Arm], runs: Sequence[RunConfig], overrides: Mapping[str, Any]
) -> None:
    about = {"data.name"} if any("data.name" in arm.changes for arm in arms) else set()
    if len(runs) > 1:  # one alone is named by its mechanism, and keeps it
        about |= set.intersection(*(fixed_options(run.model, "model") for run in runs))
    for option in overrides:
        if option in about:
            raise UserError(f"--{option} is what these arms are about; choose arms with --arms")


def _check_conditions(runs: Sequence[RunConfig], overrides: Mapping[str, Any]) -> None:
    """Options that only say more about another one, which no arm has."""
    for option in overrides:
        read = [
            (each.metadata[READ], holder)
            for run in runs
            for name, each, holder in options(run.model, "model")
            if name == option and READ in each.metadata
        ]
        if read and not any(condition.holds(holder) for condition, holder in read):
            where = read[0][0].says.format(option.rpartition(".")[0])
            raise UserError(
                f"--{option} is read {where} only, which none of these arms has: "
                f"{', '.join(run.arm for run in runs)}"
            )


def _check_alike(arms: Sequence[Arm], by_arm: Mapping[str, dict[str, Any]]) -> None:
    for first, second in itertools.combinations(arms, 2):
        if by_arm[first.name] | {"arm": ""} == by_arm[second.name] | {"arm": ""}:
            ours, theirs = (first, second) if second.name == first.control else (second, first)
            control = "its control " if theirs.name == ours.control else ""
            raise UserError(
                f"with these options {ours.name} is the same as {control}{theirs.name}; leave one "
                "out with --arms, or the option"
            )
