"""Options shared by the commands that train: any field of a configuration by its dotted name."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Any

import jsonargparse

from ..data.configs import DataConfig
from ..errors import UserError, nearest
from ..experiments import EXPERIMENTS, Experiment
from ..models.configs import LanguageModelConfig
from ..training.configs import RunConfig, TrainingConfig, flatten

OPEN_ENDED = "model.attention.scalars"  # a mapping: any name may follow
GROUPS = {"model": LanguageModelConfig, "training": TrainingConfig, "data": DataConfig}


def pick_experiment(arguments: list[str]) -> tuple[Experiment, list[str]]:
    """The experiment named first (the demo's if none) and the remaining arguments."""
    if not arguments or arguments[0].startswith("-"):
        return EXPERIMENTS["stdlib"], arguments
    name, *rest = arguments
    if name not in EXPERIMENTS:
        raise UserError(f"no experiment is called {name!r}; {nearest(name, EXPERIMENTS)}")
    return EXPERIMENTS[name], rest


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
    parser.add_argument("--overwrite", action="store_true", help="train changed runs anew")
    parser.add_argument("--plugins", help="modules to import first, by comma: your mechanisms")
    for name, kind in GROUPS.items():
        parser.add_argument(f"--{name}", type=kind, default=getattr(experiment.base, name))
    return parser


def parse(
    parser: jsonargparse.ArgumentParser, arguments: list[str]
) -> tuple[jsonargparse.Namespace, dict[str, Any]]:
    """Parsed options, and the configuration fields the user gave, by dotted name.

    Raises ``UserError`` for an unknown option (naming the nearest) or a value of another kind.
    """
    known = {option for action in parser._actions for option in action.option_strings}
    given = [a.partition("=")[0] for a in arguments if a.startswith("--")]
    for option in given:
        if option not in known and not option.startswith(f"--{OPEN_ENDED}."):
            raise UserError(f"no option is called {option}; {nearest(option, known)}")
        if option.removeprefix("--") in (*GROUPS, "model.attention", OPEN_ENDED):
            raise UserError(f"{option} is a group: name a field of it, as in {_example(option)}")
    try:
        built = parser.instantiate(parser.parse_args(arguments))
    except (argparse.ArgumentError, jsonargparse.ArgumentError, ValueError) as error:
        raise UserError(_one_sentence(str(error))) from error
    values = {name: dataclasses.asdict(getattr(built, name)) for name in GROUPS}
    flat = flatten(values)
    overrides = {}
    for option in (option.removeprefix("--") for option in given):
        if option.startswith(OPEN_ENDED):
            overrides[OPEN_ENDED] = values["model"]["attention"]["scalars"]
        elif option in flat:
            overrides[option] = flat[option]
    return built, overrides


def _example(group: str) -> str:
    examples = {"--model": "layers 4", "--training": "steps 2000", "--data": "name file"}
    examples |= {"--model.attention": "window 64", f"--{OPEN_ENDED}": "sigma 4"}
    return f"{group}.{examples[group]}"


def base_config(experiment: Experiment, options: jsonargparse.Namespace) -> RunConfig:
    """The experiment's base with the user's plugins and data."""
    plugins = tuple(options.plugins.split(",")) if options.plugins else ()
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
