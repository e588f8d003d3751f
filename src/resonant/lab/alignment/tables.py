"""Tables of alignment: boundary errors by tempo, what goes wrong, decoding without the truth."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ..kit.grid import Grid
from ..kit.results import ArmResult, Results
from ..kit.statistics import paired_difference
from .conditions import CONDITIONS, HARD, LONG, PACES, REAL, WARY

BOUNDARY = "boundary_error"
COMPARED = ("0.6", "1", "1.6", LONG, REAL, WARY.name)
HARDER = tuple(condition.name for condition in HARD)
MISSING = ""  # where an arm was not tested
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
LOST = {
    "lost": "Utterances that lose their place, in %",
    "lost_at_end": "Utterances that have lost their place when they end, in %",
}
LOST_SAYS = "A frame has lost its place where it points more than 2 symbols from the true one."


def aligned(results: Results) -> list[ArmResult]:
    """The arms whose runs were measured against a true alignment."""
    return [arm for arm in results.arms if f"{BOUNDARY}@1" in arm.runs[0]["metrics"]]


def frame_ms(arms: Sequence[ArmResult]) -> float | None:
    """How long a frame is; None where frames are no time."""
    return arms[0].runs[0].get("frame_ms")


def tested(arms: Sequence[ArmResult], metric: str) -> list[str]:
    """The conditions under which some arm has ``metric``."""
    names = (*(condition.name for condition in (*CONDITIONS, *HARD)), REAL, WARY.name)
    return [n for n in names if any(_has(arm, f"{metric}@{n}") for arm in arms)]


def _has(arm: ArmResult, metric: str) -> bool:
    return metric in arm.runs[0]["metrics"]


def alignment_tables(results: Results) -> dict[str, Grid]:
    """Tables by heading; none where nothing was aligned."""
    arms, also = aligned(results), results.compared
    if not arms:
        return {}
    length = frame_ms(arms)
    unit, scale = ("frames", 1.0) if length is None else ("ms", length)
    digits = 2 if length is None else 1
    tables = {
        f"Boundary error by tempo, in {unit}": boundaries(arms, digits=digits, scale=scale),
        f"{results.unit[:1].upper()}{results.unit[1:]} by tempo": by_tempo(arms, "loss", digits=3),
        f"Differences of boundary error, in {unit}": differences(
            arms, also, BOUNDARY, digits=digits, scale=scale
        ),
        f"Differences of boundary error under harder conditions, in {unit}": differences(
            arms, also, BOUNDARY, digits=digits, scale=scale, conditions=HARDER
        ),
        f"Differences of {results.unit}": differences(
            arms, also, "loss", digits=2 if length is None else 3
        ),
        "Alignment at the tempo of training": _details(arms),
    }
    decoded = [arm for arm in arms if "free_length" in arm.runs[0]["metrics"]]
    if decoded:
        tables["Decoding that hears only itself"] = _decoded(decoded)
    for pace in PACES:
        paced = [arm for arm in arms if f"free_length@{pace:g}" in arm.runs[0]["metrics"]]
        if paced:
            heading = f"Decoding at {pace:g} times the tempo of training, on purpose"
            tables[heading] = _decoded(paced, pace)
    for name, heading in LOST.items() if tested(arms, "lost") else ():
        tables[heading] = by_tempo(arms, name, digits=1, scale=100.0, says=LOST_SAYS)
    return {heading: grid for heading, grid in tables.items() if grid.rows}


def by_tempo(
    arms: Sequence[ArmResult],
    metric: str,
    *,
    digits: int,
    scale: float = 1.0,
    says: str = "",
) -> Grid:
    """Means over seeds, times ``scale``: an arm a row, a condition a column."""
    names = tested(arms, metric)
    rows = [[arm.name, *_cells(arm, metric, names, digits=digits, scale=scale)] for arm in arms]
    legend = "Mean over seeds. Tempo 0.6 means frames / 0.6; training is at 1."
    if LONG in names:
        legend += " Long: twice as many symbols as the longest utterance of training."
    if "ramp" in names:
        legend += (
            " Ramp: from 0.6 to 1 / 0.6 inside an utterance; rubato: up and down by 1.6 twice; "
            "repeated: three symbols again and again; noisy: three times the noise."
        )
    if frame_ms(arms) is not None:
        legend = "Mean over seeds. "
        if "0.6" in names:
            legend += (
                "Tempo 0.6: spoken at 0.6 times the rate; training is at 1. Long: two phrases in "
                "one breath, where training has one."
            )
        elif LONG in names:
            legend += "Long: pieces of up to twice the length of those of training."
    return Grid(("arm", *names), rows, f"{legend} {says}".strip())


def boundaries(arms: Sequence[ArmResult], *, digits: int, scale: float) -> Grid:
    """Boundary errors by tempo, and what can be known without looking at the frames."""
    says = (
        "A boundary lies after as many frames as point at symbols before it. The head looked "
        "at has the smallest error on the validation split, at tempo 1. Stretched durations, "
        "for reference: the true ones before jitter, stretched to the true length; arms that "
        "go frame by frame see the jitter of the frames before."
    )
    if frame_ms(arms) is not None:
        says = (
            "A boundary lies after as many frames as point at phonemes before it; a frame is "
            f"{scale:.1f} ms. The head looked at has the smallest error on the validation split, "
            "at tempo 1. Stretched durations, for reference: each phoneme's mean over the training "
            "split, stretched to the true length."
        )
        if REAL in tested(arms, BOUNDARY):
            says += " Real: pieces of recordings, against their alignments."
        if WARY.name in tested(arms, BOUNDARY):
            says += " Real-half: clocks that listen take half of each correction there."
    grid = by_tempo(arms, BOUNDARY, digits=digits, scale=scale, says=says)
    most = max(arms, key=lambda arm: len(tested([arm], BOUNDARY)))
    cells = _cells(most, f"stretched_{BOUNDARY}", grid.columns[1:], digits=digits, scale=scale)
    grid.rows.append(["stretched durations", *cells])
    return grid


def differences(
    arms: Sequence[ArmResult],
    also: Sequence[tuple[str, str]],
    metric: str,
    *,
    digits: int = 2,
    scale: float = 1.0,
    conditions: Sequence[str] = COMPARED,
) -> Grid:
    """Arm minus control, paired by seed, and the ratio of the means."""
    by_name = {arm.name: arm for arm in arms}
    pairs = [(arm.name, arm.control) for arm in arms if arm.control in by_name] + list(also)
    names = [name for name in conditions if name in tested(arms, metric)]
    rows = []
    for name, control in pairs:
        cells, both = [], (by_name[name], by_name[control or ""])
        if not any(_has(arm, f"{metric}@{each}") for arm in both for each in names):
            continue
        for condition in names:
            if not all(_has(arm, f"{metric}@{condition}") for arm in both):
                cells.append(MISSING)
                continue
            ours, theirs = (
                [scale * x for x in arm.losses(f"{metric}@{condition}")] for arm in both
            )
            found = paired_difference(ours, theirs)
            half = "" if found.half_width is None else f" ± {found.half_width:.{digits}f}"
            base = statistics.fmean(theirs)
            ratio = "" if base == 0 else f" ({statistics.fmean(ours) / base:.2f})"
            cells.append(f"{found.mean:+.{digits}f}{half}{ratio}")
        rows.append([name, control or "", *cells])
    return Grid(
        ("arm", "control", *names),
        rows,
        "Paired by seed, with 95 % intervals; in brackets the arm's error over its control's.",
    )


def _details(arms: Sequence[ArmResult]) -> Grid:
    rows = [[arm.name, *(_mean(arm, f"{name}@1", 3) for name, _ in DETAILS)] for arm in arms]
    return Grid(
        ("arm", *(says for _, says in DETAILS)),
        rows,
        "Shares of frames on the right symbol, of boundaries within a frame of the truth; error "
        "of durations, in frames; by search: boundary error of the best monotone path through the "
        "weights (monotonic alignment search); focus: largest weight of a frame; symbols no frame "
        "points at; symbols entered again; utterances whose last frame is not on the last symbol; "
        "frames at which the mean position goes back (for clocks a theorem says never, unless they "
        "listen).",
    )


def _decoded(arms: Sequence[ArmResult], pace: float = 1.0) -> Grid:
    at = "" if pace == 1 else f"@{pace:g}"
    rows = [[arm.name, *(_mean(arm, f"{name}{at}", 3) for name, _ in FREE)] for arm in arms]
    says = (
        "Each frame from the model's own earlier frames, 64 test utterances. No stop: share that "
        "reached three times the true length. Clocks and mixtures stop when the median head of the "
        "last layer passes the last symbol, others when their stop unit says so. Length off by: "
        "mean of |frames made / true frames - 1|."
    )
    if pace != 1:
        says += (
            f" True: the durations over {pace:g}. A frame counts as {pace:g} frames of the tempo "
            "of training, in which errors are: rounding alone makes some 0.2 to 0.5 of them."
        )
    return Grid(("arm", *(column for _, column in FREE)), rows, says)


def _cells(
    arm: ArmResult, metric: str, names: Sequence[str], *, digits: int, scale: float
) -> list[str]:
    return [
        f"{scale * arm.mean(f'{metric}@{name}'):.{digits}f}"
        if _has(arm, f"{metric}@{name}")
        else MISSING
        for name in names
    ]


def _mean(arm: ArmResult, metric: str, digits: int) -> str:
    return f"{arm.mean(metric):.{digits}f}"
