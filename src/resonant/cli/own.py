"""`resonant compare MODULE:NAME`: a comparison of one's own, from a module or a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import jsonargparse

from ..errors import UserError, in_words
from ..models.fields import field_docs
from .loading import load_named
from .options import parsed

if TYPE_CHECKING:
    from ..lab.own.comparison import Comparison

TRAINING = "training"  # the field of a Problem that has options of its own


def main(arguments: list[str]) -> int:
    """Compare; status 1 if a run failed."""
    name, *rest = arguments
    from ..lab.own.comparison import Comparison

    comparison = load_named(name)
    if not isinstance(comparison, Comparison):
        raise UserError(
            f"{name} is a {type(comparison).__name__}; `resonant compare MODULE:NAME` runs a "
            "resonant.lab.Comparison(arms=..., train_and_score=...)"
        )
    parser = make_parser(name, comparison)
    options, given = parsed(parser, rest)
    if options.arms is not None:
        comparison = comparison.only([name.strip() for name in options.arms.split(",")])
    if options.seeds is not None:
        comparison = dataclasses.replace(comparison, seeds=options.seeds)
    comparison = _configured(comparison, options, given)
    from ..lab.own.door import run_comparison

    out = Path(options.out or f"runs/{name.rpartition(':')[2]}")
    found = run_comparison(
        comparison,
        out,
        workers=options.workers,
        overwrite=options.overwrite,
        probe=getattr(options, "probe", True),
    )
    print(f"report: {found.report()}")
    return 1 if found.failed else 0


def make_parser(name: str, comparison: Comparison) -> jsonargparse.ArgumentParser:
    """Make the parser: what every comparison takes, and the fields of this one."""
    parser = jsonargparse.ArgumentParser(
        prog=f"resonant compare {name}",
        description=f"{comparison.says or 'a comparison of your own'}; arms: "
        f"{', '.join(comparison.arms)}; control: {comparison.control_name}.",
        exit_on_error=False,
        default_env=False,
    )
    parser.add_argument("--arms", help="names by comma; all if left out")
    parser.add_argument("--seeds", type=int, help=f"number of seeds ({comparison.seeds})")
    parser.add_argument(
        "--workers", type=int, help="processes, a thread each (all cores); 0: in this process"
    )
    parser.add_argument("--out", help="folder for the runs and the page")
    parser.add_argument("--overwrite", action="store_true", help="make changed runs anew")
    held = _held(comparison)
    if comparison.is_of_a_problem:
        parser.add_argument(
            "--no-probe",
            dest="probe",
            action="store_false",
            help="do not measure time and memory of a training step",
        )
    if held is not None:
        _add_fields(parser, held)
    return parser


def _held(comparison: Comparison) -> Any:
    """The dataclass whose fields are options: a problem, or the configuration; or None."""
    own = comparison.train_and_score
    return own if dataclasses.is_dataclass(own) else comparison.config


def _add_fields(parser: jsonargparse.ArgumentParser, held: Any) -> None:
    kind = type(held)
    says = {
        name: text for each in reversed(kind.__mro__) for name, text in field_docs(each).items()
    }
    try:
        hints = get_type_hints(kind)
        for field in dataclasses.fields(held):
            default = getattr(held, field.name)
            own = field.name == TRAINING and dataclasses.is_dataclass(default)
            name = TRAINING if own else f"config.{field.name}"
            about: dict[str, Any] = {} if own else {"help": says.get(field.name, "")}
            parser.add_argument(f"--{name}", type=hints[field.name], default=default, **about)
    except (NameError, TypeError, ValueError) as error:
        raise UserError(
            f"the fields of {kind.__name__} cannot be options ({in_words(error)}); give each a "
            "type such as int, float, str or bool"
        ) from error


def _configured(
    comparison: Comparison, options: jsonargparse.Namespace, given: list[str]
) -> Comparison:
    """The comparison with the fields that the user gave."""
    held = _held(comparison)
    prefix = "--config."
    names = {each.removeprefix(prefix).split(".")[0] for each in given if each.startswith(prefix)}
    changes = {name: getattr(options.config, name) for name in names}
    if any(each.startswith(f"--{TRAINING}.") for each in given):
        changes[TRAINING] = options.training
    if not changes:
        return comparison
    try:
        changed = dataclasses.replace(held, **changes)
    except (TypeError, ValueError) as error:
        raise UserError(f"{type(held).__name__}: {error}") from error
    name = "train_and_score" if held is comparison.train_and_score else "config"
    return dataclasses.replace(comparison, **{name: changed})
