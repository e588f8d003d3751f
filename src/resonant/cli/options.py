"""Options shared by the commands that train: any field of a configuration by its dotted name."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Any, get_type_hints

import jsonargparse

from ..errors import UserError, nearest
from ..lab.domains import EXPERIMENTS
from ..lab.kit.config import RunConfig, flatten
from ..lab.kit.experiment import Experiment
from ..lab.kit.plugins import import_plugins, split_names
from ..models.fields import field_docs
from .plugins import plugins_given

OPEN_ENDED = "model.attention.scalars"  # a mapping: any name may follow
NAMES = ("model", "training", "data")


def pick_experiment(command: str, arguments: list[str]) -> tuple[Experiment, list[str]]:
    """The experiment named first (the demo's if none) and the remaining arguments.

    Plugins are imported before, which may bring it. ``--help`` without a name says what there is.
    """
    import_plugins(split_names(plugins_given(arguments)))
    if arguments and arguments[0] in ("-h", "--help"):
        print(_usage(command))
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        return next(iter(EXPERIMENTS.values())), arguments
    name, *rest = arguments
    if name not in EXPERIMENTS:
        raise UserError(f"no experiment is called {name!r}; {nearest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name], rest


def _usage(command: str) -> str:
    """Describe a command that trains, before an experiment is named."""
    default = next(iter(EXPERIMENTS))
    lines = [f"usage: resonant {command} [EXPERIMENT] [options]"]
    if command == "compare":
        lines += ["       resonant compare MODULE:NAME or FILE.py:NAME, a Comparison of your own"]
    lines += ["", f"The options of each: resonant {command} EXPERIMENT --help", "", "experiments"]
    for name, experiment in EXPERIMENTS.items():
        said = " (if none is named)" if name == default else ""
        lines.append(f"  {name:25} {experiment.says}{said}")
    return "\n".join(lines)


def training_parser(command: str, experiment: Experiment) -> jsonargparse.ArgumentParser:
    """A parser with the fields of model, training and data, defaults from the experiment."""
    parser = jsonargparse.ArgumentParser(
        prog=f"resonant {command} {experiment.name}",
        description=f"{experiment.says}. Name the experiment first.",
        exit_on_error=False,
        default_env=False,
    )
    parser.add_argument("--data-dir", help="folder to take data files from, instead of the network")
    parser.add_argument("--out", help="folder for the runs and the report")
    parser.add_argument("--device", default="cpu", help="cpu, cuda (all GPUs) or cuda:N (untested)")
    said = "processes that share each run: shards of its weights, parts of its batches (1)"
    parser.add_argument("--processes", type=int, default=1, help=said)
    said = "groups of processes that each hold all weights of a run (1)"
    parser.add_argument("--replicas", type=int, default=1, help=said)
    parser.add_argument("--overwrite", action="store_true", help="train changed runs anew")
    parser.add_argument("--plugins", help="modules to import first, by comma: your mechanisms")
    _add_models(parser, experiment)
    for name in ("training", "data"):
        default = getattr(experiment.base, name)
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser


def _add_models(parser: jsonargparse.ArgumentParser, experiment: Experiment) -> None:
    """The fields of every model among the arms; one that several have is one option."""
    models: list[tuple[str | None, Any]] = [(None, experiment.base.model)]
    models += [(arm.name, arm.model) for arm in experiment.arms if arm.model]
    seen = {"architecture"}  # what an arm is about: no option
    for name, model in models:
        hints, says = get_type_hints(type(model)), field_docs(type(model))
        for field in dataclasses.fields(model):
            if field.name in seen:
                continue
            seen.add(field.name)
            default = getattr(model, field.name)
            parser.add_argument(
                f"--model.{field.name}",
                type=hints[field.name],
                default=default,
                help=says.get(field.name, "")
                + _other_defaults(field.name, default, models[1:], name),
            )


def _other_defaults(
    field: str, default: Any, models: list[tuple[str | None, Any]], own: str | None
) -> str:
    """What else a field starts at, or whose it is."""
    if own is not None:
        return f" (arm {own})"
    others = {name: getattr(m, field) for name, m in models if hasattr(m, field)}
    said = [f"{name}: {v}" for name, v in others.items() if isinstance(v, int) and v != default]
    return f" ({', '.join(said)})" if said else ""


def parsed(
    parser: jsonargparse.ArgumentParser, arguments: list[str]
) -> tuple[jsonargparse.Namespace, list[str]]:
    """Parsed options, and the names of those that were given, with their dashes.

    Raises ``UserError`` for an unknown option (naming the nearest) or a value of another kind.
    """
    known = {option for action in parser._actions for option in action.option_strings}
    given = [a.partition("=")[0] for a in arguments if a.startswith("--")]
    for option in given:
        if option not in known and not option.startswith(f"--{OPEN_ENDED}."):
            raise UserError(f"no option is called {option}; {nearest(option, known)}")
        named = any(other.startswith(f"{option}.") for other in known)
        if named or option.removeprefix("--") == OPEN_ENDED:
            raise UserError(
                f"{option} is a group: name a field of it, as in {_example(option, known)}"
            )
    try:
        built = parser.instantiate(parser.parse_args(arguments))
    except (argparse.ArgumentError, jsonargparse.ArgumentError, ValueError) as error:
        raise UserError(_one_sentence(str(error))) from error
    return built, given


def parse(
    parser: jsonargparse.ArgumentParser, arguments: list[str]
) -> tuple[jsonargparse.Namespace, dict[str, Any]]:
    """Parsed options, and the configuration fields the user gave, by dotted name.

    Raises ``UserError`` as ``parsed`` does.
    """
    built, given = parsed(parser, arguments)
    values = {name: _values(getattr(built, name)) for name in NAMES}
    flat = flatten(values)
    overrides = {}
    for option in (option.removeprefix("--") for option in given):
        if option.startswith(OPEN_ENDED):
            overrides[OPEN_ENDED] = values["model"]["attention"]["scalars"]
        elif option in flat:
            overrides[option] = flat[option]
    return built, overrides


def _values(config: Any) -> dict[str, Any]:
    """A configuration, or fields of several, as plain values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return dataclasses.asdict(config)
    fields = {name: getattr(config, name) for name in vars(config)}
    return {n: _values(v) if dataclasses.is_dataclass(v) else v for n, v in fields.items()}


def _example(group: str, known: set[str]) -> str:
    """The first option of a group, or of learned scalars the best known."""
    if group == f"--{OPEN_ENDED}":
        return f"{group}.sigma 4"
    return f"{min(option for option in known if option.startswith(f'{group}.'))} VALUE"


def base_config(experiment: Experiment, options: jsonargparse.Namespace) -> RunConfig:
    """The experiment's base with the user's plugins and data."""
    plugins = split_names(options.plugins)
    plugins = tuple(dict.fromkeys(experiment.base.plugins + plugins))
    return dataclasses.replace(experiment.base, plugins=plugins, data=options.data)


def _one_sentence(message: str) -> str:
    """A parser's message on one line: the option, what it takes, what it got."""
    key = re.search(r'Parser key "([^"]+)"', message)
    value = re.search(r"(?:Got|Given) value: (.*)", message)
    kinds = dict.fromkeys(re.findall(r"<class '(\w+)'>", message.split("Given value")[0]))
    if key and value and kinds:
        takes = " or ".join("null" if kind == "NoneType" else kind for kind in kinds)
        return f"--{key[1]} takes {takes}, not {value[1].strip()!r}; see --help"
    return " ".join(line.strip(" -") for line in message.splitlines() if line.strip())
