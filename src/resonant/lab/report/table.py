"""Tables of every comparison: losses, contrasts, cost, learning rates."""

from __future__ import annotations

import math

from ..kit.grid import Grid, difference_cells
from ..kit.results import ArmResult, Results

FEW = 1e4  # tokens, which are given to the last one


def quality(results: Results) -> Grid:
    """Losses, and what may be said about their differences."""
    return Grid(
        (
            "arm",
            "test loss",
            "valid loss",
            "control",
            "difference",
            "verdict",
            "smallest detectable",
        ),
        [
            [
                arm.name,
                f"{arm.mean('test_loss'):.4f}",
                f"{arm.mean('valid_loss'):.4f}",
                *difference_cells(arm.control, arm.difference),
            ]
            for arm in results.arms
        ],
        f"Losses in {results.unit}. Differences are arm minus control, paired by seed, on the test "
        "split, with their 95 % interval: negative is better. Smallest detectable: the true "
        "difference that these seeds would have shown in 80 % of repetitions."
        + _whose(results)
        + "".join(f" {each}" for each in results.mixed),
    )


def _whose(results: Results) -> str:
    """A sentence about arms that another comparison trained."""
    if results.against is None:
        return ""
    name, arms = results.against
    theirs = {rate for a in results.arms if a.name in arms for rate in _rates(a)}
    ours = {rate for a in results.arms if a.name not in arms for rate in _rates(a)}
    said = f" Trained there, not here: {', '.join(arms)} (of {name})."
    if theirs <= ours or not ours:
        return said
    return said + (
        " Their learning rates were chosen there (the table of cost names each arm's): where ours "
        "were not swept, a difference may be one of rates."
    )


def _rates(arm: ArmResult) -> set[float]:
    return {run["learning_rate"] for run in arm.runs}


def contrasts(results: Results) -> Grid | None:
    """Further differences of test losses and interactions, or None if none were asked for."""
    if not results.contrasts:
        return None
    published = any(each.published is not None for each in results.contrasts)
    rows = []
    for each in results.contrasts:
        _, *cells = difference_cells(each.name, each.difference)
        reported = "" if each.published is None else f"{each.published:+.3f}"
        rows.append([each.name, *cells, *([reported] if published else [])])
    return Grid(
        (
            "contrast",
            "difference",
            "verdict",
            "smallest detectable",
            *(["published"] if published else []),
        ),
        rows,
        f"Test losses in {results.unit}, paired by seed, with 95 % intervals; a difference of two "
        "differences is an interaction: what the two changes do together beyond the sum of both."
        + (" Published: as the paper reports it, at its own size." if published else ""),
    )


def cost(results: Results) -> Grid:
    """Size, work, speed and memory, those that were measured."""
    heads = ("arm", "parameters (attention)", f"{results.token}s", "learning rate")
    measured = (f"kFLOPs/{results.token}", f"{results.token}s/s", "peak MB")
    rows = [_cost_row(arm) for arm in results.arms]
    if not any(arm.cost for arm in results.arms):
        shown = [row[: len(heads)] for row in rows]
        said = "Time and memory of a training step were not measured."
        return Grid(heads, shown, said + _unequal(results))
    return Grid(
        heads + measured,
        rows,
        "FLOPs are counted for forward and backward, as if the fused kernel skipped nothing. "
        "Speed and peak memory of a training step on one thread of the CPU, measured apart from "
        "the training, arms taking turns." + _elsewhere(results) + _unequal(results),
    )


def _elsewhere(results: Results) -> str:
    """A sentence about arms whose speed and memory another machine may have measured."""
    names = [arm.name for arm in results.arms if arm.cost and not arm.measured]
    return f" Not measured here: {', '.join(names)}." if names else ""


def _unequal(results: Results) -> str:
    """Sentences about arms whose size is not their control's, within 1 %."""
    sizes = {arm.name: arm.runs[0]["parameters"] for arm in results.arms}
    said = ""
    for arm in results.arms:
        if arm.control in sizes:
            share = 100.0 * (sizes[arm.name] / sizes[arm.control] - 1.0)
            if abs(share) > 1.0:
                said += f" Not of equal size: {arm.name} {share:+.1f} % against {arm.control}."
    return said


def sweep(results: Results) -> Grid | None:
    """Validation losses by learning rate, or None if there was no sweep."""
    swept = results.sweep
    if swept is None:
        return None
    rows = []
    for arm in results.arms:
        if arm.name not in swept.losses:  # of another comparison, with rates of its own
            continue
        losses, best = swept.losses[arm.name], swept.best(arm.name)
        cells = [_swept_loss(losses[rate], best=rate == best) for rate in swept.rates]
        rows.append([arm.name, *cells, "at the edge" if swept.at_edge(arm.name) else ""])
    return Grid(
        ("arm", *(f"lr {rate:g}" for rate in swept.rates), "note"),
        rows,
        f"Validation loss in {results.unit} by peak learning rate, seed {swept.seed} alone; * "
        "marks each arm's best, at which all seeds were trained. At the edge: the best rate is the "
        "smallest or largest tried, so a better one may lie beyond.",
    )


def _swept_loss(loss: float, *, best: bool) -> str:
    return "diverged" if math.isinf(loss) else f"{loss:.4f}{'*' if best else ' '}"


def _cost_row(arm: ArmResult) -> list[str]:
    first, cost, measured = arm.runs[0], arm.cost, arm.measured
    return [
        arm.name,
        f"{first['parameters']:,} ({first['attention_parameters']:,})",
        f"{first['tokens'] / 1e6:.2f}M" if first["tokens"] >= FEW else f"{first['tokens']:,.0f}",
        f"{first['learning_rate']:g}",
        "" if cost is None else f"{cost['flops_per_token'] / 1e3:,.0f}",
        "" if measured is None else f"{measured['tokens_per_second']:,.0f}",
        "" if measured is None else f"{measured['peak_bytes'] / 1e6:.0f}",
    ]


def title(results: Results) -> str:
    """What the table is about."""
    seeds = f"{results.seeds} seed{'s' if results.seeds > 1 else ''}"
    return f"{results.experiment}: {results.data}; {seeds} per arm"
