"""What a comparison of one's own must be: its arms, seeds, sweep and the rest."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from ...errors import UserError, nearest
from ..compare.limits import MOST_SEEDS
from ..problem.problem import Problem
from .results import VALIDATION

DIRECTIONS = ("lower", "higher")
NAME = re.compile(r"(?!_)[\w@=+][\w@=+.-]{0,99}")
PLAIN = (type(None), bool, int, float, str)


def check_comparison(comparison: Any) -> None:
    """Raise ``UserError`` for what cannot be compared."""
    _check_arms(comparison.arms)
    given, control = comparison.train_and_score, comparison.control
    if not isinstance(given, Problem) and not callable(given):
        raise UserError(
            "train_and_score is a function (arm, seed, run) that returns scores by name, or a "
            f"Problem; it is a {type(given).__name__}"
        )
    if control and control not in comparison.arms:
        raise UserError(f"the control {control!r} is no arm; {nearest(control, comparison.arms)}")
    for name, way in comparison.better.items():
        if way not in DIRECTIONS:
            raise UserError(f"better[{name!r}] is 'lower' or 'higher'; it is {way!r}")
    _check_seeds(comparison.seeds)
    _check_sweep(comparison)
    if isinstance(given, Problem):
        _check_problem(given)


def is_plain(value: Any) -> bool:
    """Tell whether a value reads as what it is: one of ``PLAIN``, or a tuple or list of those."""
    if type(value) in (tuple, list):
        return all(is_plain(each) for each in value)
    return type(value) in PLAIN


def as_read(value: Any) -> Any:
    """Write a plain value as JSON holds it; tuples, infinities and NaN as they read."""
    finite = type(value) is not float or math.isfinite(value)
    return value if type(value) in PLAIN and finite else repr(value)


def word_of(value: Any) -> str:
    """Write a swept value for a folder's name."""
    return re.sub(r"[^\w.+-]", "_", str(value))[:40]


def of_python(sweep: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Make numbers of numpy among swept values those of Python."""
    return {
        name: [each.item() if isinstance(each, np.generic) else each for each in values]
        for name, values in sweep.items()
    }


def check_kinds(comparison: Any) -> None:
    """Raise ``UserError`` for an argument of another kind than it must be."""
    for name, kind, form in (
        ("control", str, "the name of an arm"),
        ("says", str, "a few words"),
        ("better", Mapping, '"lower" or "higher" by score: {"mse": "lower"}'),
        ("choose_by", (str, type(None)), "the name of a score of the validation split"),
        ("sweep", (Mapping, type(None)), 'lists of values by name: {"lr": [0.001, 0.01]}'),
    ):
        value = getattr(comparison, name)
        if not isinstance(value, kind):
            raise UserError(f"{name} is {form}; it is {value!r}")
    for name, values in (comparison.sweep or {}).items():
        if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, (str, bytes)):
            raise UserError(f"sweep[{name!r}] is a list of different values; it is {values!r}")


def _check_seeds(seeds: Any) -> None:
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, (Integral, Sequence, np.ndarray)):
        fine, shown = False, seeds
    elif isinstance(seeds, Integral):
        fine, shown = _is_whole(seeds, MOST_SEEDS) and int(seeds) > 0, seeds
    else:
        fine = 1 <= len(seeds) <= MOST_SEEDS and all(_is_whole(x, 2**63 - 1) for x in seeds)
        fine, shown = fine and len({*seeds}) == len(seeds), [*seeds[:10]]
    if not fine:
        raise UserError(
            f"seeds are how many (1 to {MOST_SEEDS}), or a list of different whole numbers from 0; "
            f"they are {shown!r}"
        )


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) <= most


def _check_problem(problem: Problem) -> None:
    """Raise ``UserError`` for a problem that lacks a field, or measures nothing."""
    kind = type(problem).__name__
    for each in dataclasses.fields(problem):
        if not hasattr(problem, each.name):
            raise UserError(
                f"{kind} has no {each.name}: its __init__ must call super().__init__(...), or make "
                "it a dataclass: @dataclass(eq=False)"
            )
    for name in ("valid_batches", "test_batches"):
        count = getattr(problem, name)
        if type(count) is not int or count < 1:
            raise UserError(f"{kind}.{name} is at least 1; it is {count!r}")


def _check_sweep(comparison: Any) -> None:
    sweep, by, config = comparison.sweep, comparison.choose_by, comparison.config
    if not isinstance(comparison.train_and_score, Problem):
        _check_values(sweep or {})
    if config is not None and (not dataclasses.is_dataclass(config) or isinstance(config, type)):
        raise UserError(f"config is an instance of a dataclass; it is a {type(config).__name__}")
    if isinstance(comparison.train_and_score, Problem):
        _check_sweep_of_problem(comparison)
        return
    if bool(sweep) != bool(by):
        raise UserError(
            'sweep and choose_by go together: sweep={"lr": [0.001, 0.01]}, choose_by="valid_mse"'
        )
    if not sweep or by is None:
        return
    if not by.startswith(VALIDATION):
        raise UserError(
            f"values are chosen by a score of the validation split, never of the test split: its "
            f"name begins with valid, val_ or dev_; choose_by is {by!r}"
        )
    if by not in comparison.better:
        raise UserError(f"better[{by!r}] must say which way it is better, 'lower' or 'higher'")
    known = [*sweep] if config is None else [each.name for each in dataclasses.fields(config)]
    for name in sweep:
        if name not in known:
            raise UserError(f"the swept {name!r} is no field of config; {nearest(name, known)}")


def _check_values(sweep: Mapping[str, Sequence[Any]]) -> None:
    """Raise ``UserError`` for swept values that a folder's name cannot tell apart."""
    for name, values in sweep.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(f"the swept {name!r} is no name of a field: letters, digits and _")
        if len({word_of(x) for x in values}) < max(len(values), 1):
            raise UserError(f"sweep[{name!r}] is a list of different values; it is {values!r}")
        for value in values:
            if not is_plain(value):
                raise UserError(
                    f"sweep[{name!r}] holds a {type(value).__name__}; sweep numbers, strings, None "
                    "or tuples of them, and look up by them inside train_and_score"
                )


def _check_sweep_of_problem(comparison: Any) -> None:
    if comparison.config is not None:
        raise UserError("a Problem's configuration is its own fields; leave out config")
    if comparison.sweep is None:
        return
    rates = [*comparison.sweep.get("learning_rate", ())]
    plain = rates and all(type(rate) in (int, float) and 0 < rate < math.inf for rate in rates)
    if [*comparison.sweep] != ["learning_rate"] or not plain:
        raise UserError(
            'a Problem sweeps its learning rate: sweep={"learning_rate": [0.001, 0.004]}; it is '
            f"{comparison.sweep!r}"
        )
    if comparison.choose_by not in (None, "valid_loss"):
        raise UserError("rates of a Problem are chosen by valid_loss; leave out choose_by")


def _check_arms(arms: Mapping[str, Any]) -> None:
    if not isinstance(arms, Mapping) or not arms:
        raise UserError("arms are given by name, at least one: {'softmax': ..., 'krause': ...}")
    for name in arms:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(
                f"an arm's name is that of a folder: letters, digits and _ @ = + . -; {name!r} "
                "is not"
            )
