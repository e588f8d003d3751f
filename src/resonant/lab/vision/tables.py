"""Tables of images: how many classes are right, and what a row's shift costs."""

from __future__ import annotations

from ..kit.grid import Grid, difference_cells
from ..kit.results import ArmResult, Results
from ..kit.statistics import paired_difference
from .config import BY_CLASS

ACCURACY, SHIFTED = "accuracy", "test_loss_shifted"
LISTED = 20  # classes in a table


def image_tables(results: Results) -> dict[str, Grid]:
    """Tables by heading; none where no images were looked at."""
    tables: dict[str, Grid] = {}
    classified = _with(results, ACCURACY)
    if classified:
        tables["Accuracy, in % of test pictures"] = _accuracy(classified, results)
    by_class = [arm for arm in classified if all(BY_CLASS in run for run in arm.runs)]
    if by_class:
        tables["Accuracy by class, in % of its test pictures"] = _by_class(by_class, results)
    drawn = _with(results, SHIFTED)
    if drawn:
        tables["Pictures moved down by a row"] = _shifted(drawn, results)
    return tables


def _with(results: Results, metric: str) -> list[ArmResult]:
    return [arm for arm in results.arms if metric in arm.runs[0]["metrics"]]


def _accuracy(arms: list[ArmResult], results: Results) -> Grid:
    by_name = {arm.name: arm for arm in arms}
    rows = []
    for arm in arms:
        control = by_name.get(arm.control or "")
        rows.append([arm.name, _own(arm), *_against(arm, control)])
    for ours, theirs in results.compared:
        if {ours, theirs} <= by_name.keys():
            rows.append([ours, _own(by_name[ours]), *_against(by_name[ours], by_name[theirs])])
    return Grid(
        ("arm", "accuracy", "control", "difference", "verdict", "smallest detectable"),
        rows,
        f"Mean over seeds ({results.seeds}) ± half the 95 % interval; differences are arm minus "
        "control, paired by seed: positive is better. Smallest detectable: the true difference "
        "that these seeds would have shown in 80 % of repetitions.",
    )


def _own(arm: ArmResult) -> str:
    values = [100.0 * each for each in arm.losses(ACCURACY)]
    spread = paired_difference(values, [0.0] * len(values)).half_width
    mean = f"{100.0 * arm.mean(ACCURACY):.2f}"
    return mean if spread is None else f"{mean} ± {spread:.2f}"


def _against(arm: ArmResult, control: ArmResult | None) -> tuple[str, ...]:
    if control is None:
        return "", "", "", ""
    values = [[100.0 * each for each in which.losses(ACCURACY)] for which in (arm, control)]
    return difference_cells(control.name, paired_difference(*values), digits=2)


def _by_class(arms: list[ArmResult], results: Results) -> Grid:
    """Tabulate classes by arms, the hardest first where there are many; means over seeds."""
    counts = {name: of for name, (_, of) in arms[0].runs[0][BY_CLASS].items() if of}
    means = {name: [_share_right(arm, name) for arm in arms] for name in counts}
    order = list(counts)
    if len(order) > LISTED:
        order = sorted(order, key=lambda name: sum(means[name]))[:LISTED]
    rows = [[name, f"{counts[name]:,}", *(f"{each:.1f}" for each in means[name])] for name in order]
    which = f"; the {LISTED} hardest of {len(counts)} classes" if len(counts) > LISTED else ""
    return Grid(
        ("class", "pictures", *(arm.name for arm in arms)),
        rows,
        f"Share predicted right, mean over seeds ({results.seeds}){which}.",
    )


def _share_right(arm: ArmResult, name: str) -> float:
    shares = [run[BY_CLASS][name] for run in arm.runs]
    return 100.0 * sum(right / of for right, of in shares) / len(shares)


def _shifted(arms: list[ArmResult], results: Results) -> Grid:
    rows = []
    for arm in arms:
        cost = paired_difference(arm.losses(SHIFTED), arm.losses("test_loss"))
        _, *cells = difference_cells(arm.name, cost)
        means = (f"{arm.mean(metric):.4f}" for metric in ("test_loss", SHIFTED))
        rows.append([arm.name, *means, *cells])
    return Grid(
        ("arm", "test loss", "moved", "difference", "verdict", "smallest detectable"),
        rows,
        f"Test pictures with every row one further down and the last row first, in {results.unit}: "
        "a model that knows where things are finds them less likely.",
    )
