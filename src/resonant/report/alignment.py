"""Tables of alignment: boundary errors by tempo, what goes wrong, decoding without the truth."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ..training.conditions import CONDITIONS, LONG
from ..training.statistics import paired_difference
from .grid import Grid
from .results import ArmResult, Results

BOUNDARY = "boundary_error"
COMPARED = ("0.6", "1", "1.6", LONG)
DETAILS = (
    ("correct", "right symbol"),
    ("within", "within 1 frame"),
    ("duration_error", "duration error"),
    ("search_boundary_error", "by search"),
    ("focus", "focus"),
    ("skips", "skips"),
    ("repeats", "repeats"),
    ("early_stop", "early stop"),
    ("falls", "falls"),
)
FREE = (
    ("free_no_stop", "no stop"),
    ("free_length", "length off by"),
    ("free_boundary_error", "boundary error"),
    ("free_duration_error", "duration error"),
    ("free_skips", "skips"),
    ("free_repeats", "repeats"),
    ("free_early_stop", "early stop"),
)


def aligned(results: Results) -> list[ArmResult]:
    """The arms whose runs were measured against a true alignment."""
    return [arm for arm in results.arms if f"{BOUNDARY}@1" in arm.runs[0]["metrics"]]


def alignment_tables(results: Results) -> dict[str, Grid]:
    """Tables by heading; none where nothing was aligned."""
    arms, also = aligned(results), results.compared
    if not arms:
        return {}
    tables = {
        "Boundary error by tempo, in frames": _by_tempo(arms, BOUNDARY, digits=2),
        f"{results.unit[:1].upper()}{results.unit[1:]} by tempo": _by_tempo(arms, "loss", digits=3),
        "Differences of boundary error, in frames": _differences(arms, also, BOUNDARY),
        f"Differences of {results.unit}": _differences(arms, also, "loss"),
        "Alignment at the tempo of training": _details(arms),
    }
    decoded = [arm for arm in arms if "free_length" in arm.runs[0]["metrics"]]
    if decoded:
        tables["Decoding that hears only itself"] = _decoded(decoded)
    return tables


def _by_tempo(arms: list[ArmResult], metric: str, *, digits: int) -> Grid:
    rows = [
        [arm.name, *(_mean(arm, f"{metric}@{c.name}", digits) for c in CONDITIONS)] for arm in arms
    ]
    says = "Mean over seeds. Tempo 0.6 means frames / 0.6; training is at 1. Long: twice as many "
    says += "symbols as the longest utterance of training."
    if metric == BOUNDARY:
        known = [_mean(arms[0], f"stretched_{BOUNDARY}@{c.name}", digits) for c in CONDITIONS]
        rows.append(["stretched durations", *known])
        says += (
            " A boundary lies after as many frames as point at symbols before it. The head looked "
            "at has the smallest error on the validation split, at tempo 1. Stretched durations, "
            "for reference: the true ones before jitter, stretched to the true length; arms that "
            "go frame by frame see the jitter of the frames before."
        )
    return Grid(("arm", *(c.name for c in CONDITIONS)), rows, says)


def _differences(arms: list[ArmResult], also: Sequence[tuple[str, str]], metric: str) -> Grid:
    """Arm minus control, paired by seed, and the ratio of the means."""
    by_name = {arm.name: arm for arm in arms}
    pairs = [(arm.name, arm.control) for arm in arms if arm.control in by_name] + list(also)
    rows = []
    for name, control in pairs:
        cells = []
        for condition in COMPARED:
            ours, theirs = (
                by_name[each or ""].losses(f"{metric}@{condition}") for each in (name, control)
            )
            found = paired_difference(ours, theirs)
            half = "" if found.half_width is None else f" ± {found.half_width:.2f}"
            base = statistics.fmean(theirs)
            ratio = "" if base == 0 else f" ({statistics.fmean(ours) / base:.2f})"
            cells.append(f"{found.mean:+.2f}{half}{ratio}")
        rows.append([name, control or "", *cells])
    return Grid(
        ("arm", "control", *COMPARED),
        rows,
        "Paired by seed, with 95 % intervals; in brackets the arm's error over its control's.",
    )


def _details(arms: list[ArmResult]) -> Grid:
    rows = [[arm.name, *(_mean(arm, f"{name}@1", 3) for name, _ in DETAILS)] for arm in arms]
    return Grid(
        ("arm", *(says for _, says in DETAILS)),
        rows,
        "Shares of frames on the right symbol, of boundaries within a frame of the truth; error "
        "of durations, in frames; by search: boundary error of the best monotone path through the "
        "weights (monotonic alignment search); focus: largest weight of a frame; symbols no frame "
        "points at; symbols entered again; utterances whose last frame is not on the last symbol; "
        "frames at which the mean position goes back (for clocks a theorem says never).",
    )


def _decoded(arms: list[ArmResult]) -> Grid:
    rows = [[arm.name, *(_mean(arm, name, 3) for name, _ in FREE)] for arm in arms]
    return Grid(
        ("arm", *(says for _, says in FREE)),
        rows,
        "Each frame from the model's own earlier frames, 64 test utterances. No stop: share that "
        "reached three times the true length. Clocks and mixtures stop when the median head of the "
        "last layer passes the last symbol, softmax when its stop unit says so. Length off by: "
        "mean of |frames made / true frames - 1|.",
    )


def _mean(arm: ArmResult, metric: str, digits: int) -> str:
    return f"{arm.mean(metric):.{digits}f}"
