"""`resonant list [NAME]`: domains, experiments, data and presets; what there is under a name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UserError, nearest
from ..lab.domains import DOMAINS, EXPERIMENTS, data_classes
from ..lab.kit.domain import Domain
from ..lab.kit.experiment import Experiment
from ..lab.kit.plugins import import_plugins, split_names
from ..models.costs import token_cost
from ..models.fields import field_docs
from ..models.frame_configs import SPEECH_PRESETS
from ..models.language_configs import PRESETS
from ..models.phase_configs import PHASE_PRESETS
from ..models.pixel_configs import PIXEL_PRESETS
from ..models.vision_configs import SWIN_PRESETS, VISION_PRESETS

CONTEXT = 2048  # at which presets are counted


def _cost(config: Any) -> str:
    """What a preset costs, on a line."""
    cost = token_cost(config, CONTEXT)
    return (
        f"{cost.parameters / 1e6:.2f}M parameters; at {CONTEXT} tokens "
        f"{cost.training_flops / 1e6:,.1f} MFLOPs a token in training, "
        f"{cost.decoding_flops / 1e6:,.1f} in decoding, {cost.cache_bytes / 1e6:,.2f} MB of cache"
    )


# Of ``resonant.FUNCTION(NAME)``, and what counts their costs where that can be counted.
PRESETS_OF: dict[str, Mapping[str, Callable[[], Any]]] = {
    "language_model": PRESETS,
    "phase_language_model": PHASE_PRESETS,
    "speech_transformer": SPEECH_PRESETS,
    "vision_transformer": VISION_PRESETS,
    "swin_transformer": SWIN_PRESETS,
    "pixel_model": PIXEL_PRESETS,
}
COSTS_OF: dict[str, Callable[[Any], str]] = {"language_model": _cost}


def main(arguments: list[str]) -> int:
    """Print what can be named on the command line, or what a name stands for."""
    options = make_parser().parse_args(arguments)
    import_plugins(split_names(options.plugins))
    if options.name is None:
        _everything()
        return 0
    known: dict[str, list[tuple[Callable[[Any], None], Any]]] = {}
    for domain in DOMAINS:
        known.setdefault(domain.name, []).append((_domain, domain))
    for name, experiment in EXPERIMENTS.items():
        known.setdefault(name, []).append((_experiment, experiment))
    for name, kind in data_classes().items():
        known.setdefault(name, []).append((lambda kind, name=name: _data(name, kind), kind))
    for function, presets in PRESETS_OF.items():
        known.setdefault(function, []).append((_presets, function))
        for name in presets:
            known.setdefault(name, []).append(
                (lambda function, name=name: _preset(function, name), function)
            )
    for name in sorted({arm.name for each in EXPERIMENTS.values() for arm in each.arms}):
        known.setdefault(name, []).append((_arm, name))
    name = options.name if options.name in known else options.name.lower()
    if name not in known:
        raise UserError(
            f"no domain, experiment, arm, data, preset or kind of model is called "
            f"{options.name!r}; {nearest(options.name, known)}"
        )
    for number, (show, what) in enumerate(known[name]):
        print("\n" if number else "", end="")
        show(what)
    return 0


def _everything() -> None:
    print("experiments by domain (resonant compare NAME; its arms: resonant list NAME)")
    for domain in DOMAINS:
        print(f"  {domain.name}")
        for experiment in domain.experiments:
            print(f"    {experiment.name:23} {experiment.says}")
    print("\ndata by domain (--data.name NAME; the fields: resonant list NAME)")
    for domain in DOMAINS:
        print(f"  {domain.name:12} {', '.join(_data_names(domain))}")
    print("\npresets (resonant.FUNCTION(NAME); what they are: resonant list FUNCTION)")
    for function, presets in PRESETS_OF.items():
        print(f"  {function:21} {', '.join(presets)}")


def _data_names(domain: Domain) -> list[str]:
    return [name for kind in domain.data for name in kind.NAMES]


def _domain(domain: Domain) -> None:
    print(f"domain {domain.name}")
    print(f"  data         {', '.join(_data_names(domain))}")
    print(f"  models       {', '.join(kind.architecture for kind in domain.models)}")
    print(f"  experiments  {', '.join(each.name for each in domain.experiments)}")
    for name, (_, says) in domain.commands.items():
        print(f"  command      resonant {name}: {says}")


def _experiment(experiment: Experiment) -> None:
    base = experiment.base
    print(f"experiment {experiment.name} (resonant compare {experiment.name})")
    print(f"  {experiment.says}")
    steps = f"{base.training.steps} steps of {base.training.batch_size}"
    print(f"  data {base.data.name}, {steps}, {experiment.seeds} seeds, {experiment.unit}")
    print("  arms")
    for arm in experiment.arms:
        against = f" (against {arm.control})" if arm.control else ""
        print(f"    {arm.name:23} {arm.says}{against}")


def _data(name: str, kind: type) -> None:
    print(f"data {name} (--data.name {name})")
    if field_docs(kind):  # none under -OO
        print(f"  {(kind.__doc__ or '').strip().splitlines()[0]}")
    for field, says in field_docs(kind).items():
        print(f"    --data.{field:12} {says}")


def _arm(name: str) -> None:
    print(f"arm {name} (resonant compare EXPERIMENT --arms {name}; resonant explain {name})")
    for experiment in EXPERIMENTS.values():
        for arm in experiment.arms:
            if arm.name == name:
                against = f" (against {arm.control})" if arm.control else ""
                print(f"  {experiment.name:23} {arm.says}{against}")


def _presets(function: str) -> None:
    print(f"presets of resonant.{function}(NAME)")
    for name in PRESETS_OF[function]:
        _show_preset(function, name)


def _preset(function: str, name: str) -> None:
    print(f"preset {name} (resonant.{function}({name!r}))")
    _show_preset(function, name)


def _show_preset(function: str, name: str) -> None:
    build = PRESETS_OF[function][name]
    says = next(iter((build.__doc__ or "").strip().splitlines()), "")
    print(f"  {name:12} {says}")
    if function in COSTS_OF:
        print(f"  {'':12} {COSTS_OF[function](build())}")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant list",
        description="What there is: domains, experiments and their arms, data, presets.",
    )
    parser.add_argument(
        "name",
        nargs="?",
        help="a domain, experiment, arm, data set, preset or model function (all, in brief)",
    )
    parser.add_argument("--plugins", help="modules to import first, by comma: your domains")
    return parser
