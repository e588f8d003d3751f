"""The kinds of data there are: the one list, and what is asked of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from ..errors import UserError, nearest
from .abilities.domain import DOMAIN as ABILITIES
from .adapters.domain import DOMAIN as ADAPTERS
from .alignment.domain import DOMAIN as ALIGNMENT
from .kit.config import Data, RunConfig, TrainingConfig, run_config
from .kit.contents import described_run
from .kit.domain import Described, Domain
from .kit.experiment import Experiment
from .kit.plugins import import_plugins
from .problem.domain import DOMAIN as PROBLEM
from .speech.domain import DOMAIN as SPEECH
from .text.domain import DOMAIN as TEXT
from .vision.domain import DOMAIN as VISION

if TYPE_CHECKING:
    from .kit.task import Task

# In the order in which reports show them.
DOMAINS = [TEXT, ABILITIES, ALIGNMENT, SPEECH, VISION, ADAPTERS, PROBLEM]
EXPERIMENTS: dict[str, Experiment] = {e.name: e for domain in DOMAINS for e in domain.experiments}


def register_domain(domain: Domain) -> None:
    """Add a domain of one's own: its experiments are compared, reported and listed like ours.

    Call it when a plugin is imported (``--plugins MODULE``).

    Raises ``ValueError`` for a name of a domain, experiment, data, architecture or command that is
    taken, for data without names, arms of one name or without their control, and fields in
    ``unread`` that no training has.
    """
    taken = {
        "a domain": ([each.name for each in DOMAINS], [domain.name]),
        "an experiment": (list(EXPERIMENTS), [each.name for each in domain.experiments]),
        "data": (list(data_classes()), [n for kind in domain.data for n in kind.NAMES]),
        "a command": ([n for each in DOMAINS for n in each.commands], list(domain.commands)),
    }
    classes = model_classes()
    own = {kind.architecture for kind in domain.models if kind not in classes.values()}
    taken["an architecture"] = (list(classes), sorted(own))
    for what, (known, given) in taken.items():
        for index, name in enumerate(given):
            if name in [*known, *given[:index]]:
                raise ValueError(f"{what} named {name!r}: taken already; choose another name")
    _check_parts(domain)
    DOMAINS.append(domain)
    EXPERIMENTS.update({each.name: each for each in domain.experiments})


def _check_parts(domain: Domain) -> None:
    """Refuse what would be accepted now and missed in the middle of a comparison."""
    for kind in domain.data:
        if not kind.NAMES:
            raise ValueError(f"{kind.__name__} has no NAMES; by them a run says whose data it has")
    fields = {f"training.{field.name}" for field in dataclasses.fields(TrainingConfig)}
    for name in domain.unread:
        if name not in fields:
            raise ValueError(f"unread names {name!r}; {nearest(name, fields)}")
    for experiment in domain.experiments:
        names = [arm.name for arm in experiment.arms]
        for arm in experiment.arms:
            if names.count(arm.name) > 1:
                raise ValueError(f"{experiment.name} has several arms named {arm.name!r}")
            if arm.control is not None and arm.control not in names[: names.index(arm.name)]:
                raise ValueError(
                    f"the control {arm.control!r} of {arm.name!r} is no arm of {experiment.name} "
                    "before it"
                )


def data_classes() -> dict[str, type]:
    """The class of every data set's configuration, by the data's name."""
    return {name: kind for domain in DOMAINS for kind in domain.data for name in kind.NAMES}


def model_classes() -> dict[str, type]:
    """The class of every model's configuration, by its architecture."""
    return {kind.architecture: kind for domain in DOMAINS for kind in domain.models}


def resolve(part: str, values: Mapping[str, Any]) -> type:
    """The class that plain values of a run's "data" or "model" are of.

    Raises ``ValueError`` for a name that there is not.
    """
    key, what, known = {
        "data": ("name", "data", data_classes()),
        "model": ("architecture", "architecture", model_classes()),
    }[part]
    name = values.get(key)
    if name is None:
        raise ValueError(f"the {part} of a run says which it is by {key!r}, which is missing")
    if name not in known:
        raise ValueError(f"no {what} is called {name!r}; {nearest(str(name), known)}")
    return known[name]


def read_run(values: Mapping[str, Any]) -> RunConfig:
    """A run from plain values, after its plugins were imported, which may bring its domain.

    Raises ``UserError`` for a plugin that cannot be imported, ``ValueError`` for unknown names.
    """
    import_plugins(tuple(values.get("plugins", ())))
    return run_config(values, resolve)


def domain_of(config: RunConfig) -> Domain:
    """The domain of a run: that of its data.

    Raises ``UserError`` for a model that is not for these data.
    """
    domain = domain_of_data(config.data.name)
    if type(config.model) not in domain.models:  # one may be made of another
        raise UserError(
            f"a model of architecture {config.model.architecture} cannot be trained on "
            f"{config.data.name!r}"
        )
    return domain


def domain_of_data(name: str, plugins: tuple[str, ...] = ()) -> Domain:
    """The domain of the data called ``name``.

    Raises ``UserError`` if there is none: it names the nearest, and the ``plugins`` of the runs,
    which may bring one. Nobody's plugins are imported for being named in a file.
    """
    found = _holder(name)
    if found is not None:
        return found
    given = ",".join(plugins) or "MODULE"
    raise UserError(
        f"no data is called {name!r}; {nearest(name, data_classes())} (data of one's own need "
        f"--plugins {given}: code, so look at it first)"
    )


def _holder(name: str | None) -> Domain | None:
    """The domain that has data called ``name``."""
    return next((d for d in DOMAINS if any(name in kind.NAMES for kind in d.data)), None)


def build_task(config: RunConfig, data_dir: Path | None, device: str = "cpu") -> Task:
    """The model of ``config`` with its data, on ``device``.

    Raises ``UserError`` for a model that is not for these data.
    """
    domain = domain_of(config)
    domain.check(config)
    return resolve_name(domain.task)(config, data_dir, device)


def describe(data: Data, data_dir: Path | None) -> Described:
    """A hash of the data, and what they are in a few words; makes what the cache lacks.

    Raises ``UserError`` for data that cannot be had.
    """
    return resolve_name(domain_of_data(data.name).describe)(data, data_dir)


def digest_of_base(config: RunConfig) -> str:
    """Hash the pretrained weights that the model of a run begins from; "" for none.

    Raises ``UserError`` for weights that cannot be had.
    """
    domain = domain_of(config)
    return "" if domain.base is None else resolve_name(domain.base)(config)


def fit_to_data(config: RunConfig, data_dir: Path | None, given: Collection[str]) -> RunConfig:
    """Fill in what the data of a run decide, but for the fields that the user has ``given``.

    Raises ``UserError`` for data that cannot be had.
    """
    domain = domain_of(config)
    return config if domain.fit is None else resolve_name(domain.fit)(config, data_dir, given)


def receive(config: RunConfig, carried: str | None) -> None:
    """Take up what the plan of a run carries along to its workers."""
    domain = domain_of(config)
    if carried and domain.receive is not None:
        resolve_name(domain.receive)(carried)


def prepare_runs(runs: Iterable[RunConfig], data_dir: Path | None) -> None:
    """Make what runs need beside their data, where the cache has none."""
    by_domain: dict[str, list[RunConfig]] = {}
    for config in runs:
        by_domain.setdefault(domain_of(config).name, []).append(config)
    for domain in DOMAINS:
        if domain.prepare is not None and domain.name in by_domain:
            resolve_name(domain.prepare)(by_domain[domain.name], data_dir)


def open_reader(directory: Path) -> tuple[Any, Any]:
    """A trained model that reads text, and its tokenizer.

    Raises ``UserError`` or ``ValueError`` for a folder that holds none.
    """
    data = described_run(directory).get("data") or {}
    own = _holder(data.get("name"))
    domains = DOMAINS if own is None else [own, *DOMAINS]
    reader = next(domain.reader for domain in domains if domain.reader is not None)
    return resolve_name(reader)(directory)


def open_own(directory: Path) -> tuple[Any, Any] | None:
    """A trained model whose code is the user's, and what it reads; None for any other folder.

    Raises ``UserError`` for a run whose code was not imported, or changed.
    """
    values = described_run(directory)
    domain = _holder((values.get("data") or {}).get("name"))
    if domain is None or domain.opener is None:
        return None
    return resolve_name(domain.opener)(directory, run_config(values, resolve))
