"""A kind of data that models are compared on, as one record. Readable without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Data, RunConfig
from .experiment import Experiment

if TYPE_CHECKING:
    from .grid import Grid
    from .results import Results


# Of domains whose batches have rows that do not count alike, or whose losses need all digits.
WHOLE_BATCHES = {
    "training.accumulate": "; batches of texts, images and pixels alone are cut",
    "training.precision": "; texts, images and pixels alone are trained in another one",
}


def accept(config: RunConfig) -> None:
    """The check of a domain in which every model fits all data."""


@dataclass(frozen=True)
class Described:
    """What data are: a hash of their content, and a few words for tables."""

    digest: str
    words: str


@dataclass(frozen=True)
class Domain:
    """One kind of data that models are compared on. The lab knows nothing else about it.

    Dotted names "package.module:attribute" are imported when first needed, by
    ``pkgutil.resolve_name``.

    Args:
        name: of the domain, which is that of its folder
        data: configuration classes of its data (frozen, of hashable fields), by whose ``NAMES`` a
            run is of this domain
        models: configuration classes of the models that can be trained on them
        experiments: those listed under it
        task: (config, data_dir, device) -> ``Task``
        describe: (data's configuration, data_dir) -> ``Described``
        sections: a tuple of ``Section``
        runner: (task, config, directory) -> ``Runner``, which trains
        prepare: (configs, data_dir) -> None, what runs need beside their data, made once before
            any begins
        base: (config) -> a hash of the pretrained weights that its model begins from, or ""
        reader: (directory) -> (model, tokenizer) of a trained model that reads text
        fit: (config, data_dir, names of fields the user gave) -> the configuration of a run with
            what its data decide filled in, such as sizes
        opener: (directory, configuration) -> (model, inputs) of a trained model that is no
            architecture of ours, with a tensor that it reads
        receive: (text) -> None, takes up in a worker what the plan of its runs carries along
        check: raises ``UserError`` for sizes that must agree and do not; imports no torch
        unread: fields of training that the task does not read, and what to use instead, as the end
            of a sentence that says so
        commands: of the command line, by name: module with a ``main``, and a line of help
    """

    name: str
    data: tuple[type[Data], ...]
    models: tuple[type[Any], ...]
    experiments: tuple[Experiment, ...]
    task: str
    describe: str
    sections: str
    runner: str = "resonant.lab.run.loop:Run"
    prepare: str | None = None
    base: str | None = None
    reader: str | None = None
    fit: str | None = None
    opener: str | None = None
    receive: str | None = None
    check: Callable[[RunConfig], None] = accept
    unread: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A picture of a report: an SVG element under a name, and what it shows.

    An empty ``svg`` is no figure. The page folds a figure away under the line ``fold``. Raises
    ``ValueError`` for a name that is none of a file.
    """

    name: str
    svg: str
    caption: str
    fold: str = ""

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("/\\"):
            raise ValueError(f"a figure's name is that of its file; {self.name!r} cannot be")


def no_tables(results: Results) -> Mapping[str, Grid]:
    """The tables of a section that has none."""
    return {}


def no_figures(results: Results, directory: Path) -> Sequence[Figure]:
    """The figures of a section that has none."""
    return ()


def no_html(results: Results, directory: Path) -> str:
    """What a section has that has no more than tables and figures."""
    return ""


@dataclass(frozen=True)
class Section:
    """A part of a report; left out where it has nothing to show.

    Args:
        heading: over it, on the page
        tables: by their headings; one without a heading of its own stands under ""
        figures: of the comparison in a folder
        html: what is neither, on the page alone
        first: whether it says which arm is better, and stands beside the losses
    """

    heading: str
    tables: Callable[[Results], Mapping[str, Grid]] = no_tables
    figures: Callable[[Results, Path], Sequence[Figure]] = no_figures
    html: Callable[[Results, Path], str] = no_html
    first: bool = False
