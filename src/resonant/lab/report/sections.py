"""The parts of a report: those of every comparison, and those of its domains between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from rich.console import Console

from ...errors import UserError, in_words
from ..domains import DOMAINS, domain_of_data
from ..kit.domain import Figure, Section
from ..kit.folder import DONE
from ..kit.grid import Grid, alone, as_rich, plain_console
from ..kit.results import Results, first_folder
from .attention import (
    Diagnosis,
    attention_maps,
    depth_curves,
    depth_table,
    gate_texts,
    order_curves,
    read_diagnosis,
)
from .budget import budget_curves, learned_curves
from .curves import differences, learning_curves, rates
from .learned import learned_tables, morlet_figure
from .render import fragment
from .table import contrasts, cost, quality, sweep, title


@contextmanager
def naming(section: Section, results: Results) -> Iterator[None]:
    """Say errors of a section of whatever domain, shown inside the block, in a sentence.

    The files that it reads are those of runs, and may be of other kinds than it expects.
    """
    try:
        yield
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"the part {section.heading!r} of the report of {results.experiment} cannot be made of "
            f"what its runs left ({in_words(error)}); a file of arrays (.npz) or facts in "
            f"{DONE} may be damaged: delete the run's folder and run the same command again"
        ) from error


def sections_of(results: Results) -> list[Section]:
    """What a report of ``results`` may show, in order.

    Raises ``UserError`` for data of no domain.
    """
    present = {domain_of_data(*named).name for named in results.data_names.items()}
    own: list[Section] = []
    for domain in DOMAINS:
        if domain.name in present:
            own += [section for section in resolve_name(domain.sections) if section not in own]
    first, rest = ([each for each in own if each.first is when] for when in (True, False))
    return [*ANSWERS, *first, *COSTS, *rest, *DETAILS]


def all_tables(results: Results) -> list[tuple[str | None, Grid]]:
    """Every table there is something for, some under a heading; the first under the title."""
    found: list[tuple[str | None, Grid]] = []
    for section in sections_of(results):
        with naming(section, results):
            tables = section.tables(results)
        for heading, grid in tables.items():
            found.append((heading or (None if found else title(results)), grid))
    return found


def print_tables(results: Results, console: Console) -> None:
    """Print all tables; outside a terminal they are as wide as they need to be."""
    if not console.is_terminal:
        console = plain_console(file=console.file, width=140)
    for heading, grid in all_tables(results):
        console.print(as_rich(grid, heading))
        console.print(grid.legend, highlight=False)


def diagnoses_of(results: Results, directory: Path) -> dict[str, Diagnosis]:
    """What the first seed of each arm kept of its model at work, by arm."""
    found = {a.name: read_diagnosis(first_folder(a, directory)) for a in results.arms}
    return {arm: each for arm, each in found.items() if each is not None}


def _differences(results: Results, directory: Path) -> list[Figure]:
    return [
        Figure(
            "differences",
            differences(results),
            "Arm minus control on the test split: every seed (faint), mean and 95 % interval; an "
            "interval that crosses the line shows no difference.",
        )
    ]


def _rates(results: Results, directory: Path) -> list[Figure]:
    caption = "Validation loss by peak learning rate; the ring marks each arm's best."
    return [Figure("rates", rates(results), caption)]


def _morlet(results: Results, directory: Path) -> list[Figure]:
    return [
        Figure(
            "morlet",
            morlet_figure(results),
            "Left: width and frequency of each pair of features at the start and, faint, learned "
            "(every seed). Right: length of the encoding that is added to a token, by its "
            "position.",
        )
    ]


def _arms(results: Results, directory: Path) -> str:
    return fragment("arms", results.arms)


def _curves(results: Results, directory: Path) -> list[Figure]:
    return [
        Figure(
            "curves",
            learning_curves(results),
            "Validation loss: mean over seeds; the band runs from the least to the greatest seed.",
        ),
        Figure(
            "budget",
            budget_curves(results),
            "Validation loss, mean over seeds, against the time of one core (steps times the time "
            "of a step, measured apart) and against FLOPs (counted).",
        ),
    ]


def _learned(results: Results, directory: Path) -> list[Figure]:
    return [
        Figure(
            "learned",
            learned_curves(results, directory),
            "First seed, a line a layer: mean over heads (of Morlet positions: pairs of features); "
            "the band runs from the least to the greatest. sigma: Krause width, or Morlet width in "
            "tokens; alpha, tau: steepness and threshold of gates; omega: frequency in radians a "
            "token; ell: locality in tokens; diffusion (nu), floor (eps): of clocks; beta: "
            "sharpness of coupling; sink: logit of the sink.",
        )
    ]


def _depth(results: Results, directory: Path) -> list[Figure]:
    diagnoses = diagnoses_of(results, directory)
    return [
        Figure(
            "depth",
            depth_curves(diagnoses),
            "First seed, eight windows of the validation split: what enters the attention of each "
            "layer, and its weights (mean over heads). Residual and clusters say how far tokens "
            "have collapsed.",
        ),
        Figure(
            "order",
            order_curves(diagnoses),
            "Order parameter: length of the mean phase over all tokens of a window, by layers "
            "passed. Faint lines are heads; 1 is in step.",
        ),
    ]


def _depth_tables(results: Results, directory: Path) -> str:
    diagnoses = diagnoses_of(results, directory)
    return fragment("depths", {arm: depth_table(each) for arm, each in diagnoses.items()})


def _gates(results: Results, directory: Path) -> str:
    return fragment("gates", gate_texts(diagnoses_of(results, directory)))


def _maps(results: Results, directory: Path) -> list[Figure]:
    caption = (
        "First seed, the first tokens of one window: queries downwards, keys to the right, "
        "brightness the square root of the weight."
    )
    diagnoses: Mapping[str, Any] = diagnoses_of(results, directory)
    return [
        Figure(f"maps-{arm}", attention_maps(each), caption, fold=arm)
        for arm, each in diagnoses.items()
    ]


def _samples(results: Results, directory: Path) -> str:
    return fragment("samples", [arm for arm in results.arms if "sample" in arm.runs[0]])


ANSWERS = (
    Section(
        "Which is better, by how much, and how small an effect could have been seen",
        tables=lambda results: alone(quality(results)),
        figures=_differences,
    ),
    Section("Further contrasts", tables=lambda results: alone(contrasts(results))),
)
COSTS = (
    Section("At what cost", tables=lambda results: alone(cost(results))),
    Section("Learning rates", tables=lambda results: alone(sweep(results)), figures=_rates),
    Section("What was learned", tables=learned_tables, figures=_morlet),
)
DETAILS = (
    Section("Arms", html=_arms),
    Section("Learning curves: quality against steps, time and FLOPs", figures=_curves),
    Section("Learned scalars over training", figures=_learned),
    Section("What tokens become with depth", figures=_depth, html=_depth_tables),
    Section("Gates over text", html=_gates),
    Section("Where attention looks", figures=_maps),
    Section("What the models write", html=_samples),
)
