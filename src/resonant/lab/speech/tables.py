"""Tables of speech: what is heard, how far it is from the truth, what is left out or said twice."""

from __future__ import annotations

from ..alignment.tables import aligned, by_tempo, differences, frame_ms
from ..kit.grid import Grid
from ..kit.results import ArmResult, Results

HEARD = "phoneme_error"


def spoken(results: Results) -> list[ArmResult]:
    """The arms that speak."""
    return [arm for arm in aligned(results) if f"{HEARD}@1" in arm.runs[0]["metrics"]]


def speech_tables(results: Results) -> dict[str, Grid]:
    """Tables by heading; none where nothing speaks."""
    arms = spoken(results)
    length = frame_ms(arms) if arms else None
    if length is None:
        return {}
    options = {"digits": 1, "scale": 100.0}
    tables = {
        "Phoneme error rate by tempo, in %": _heard(arms),
        "Differences of phoneme error rate, in %": differences(
            arms, results.compared, HEARD, **options
        ),
        "Mel-cepstral distortion by tempo, in dB": by_tempo(
            arms,
            "distortion",
            digits=2,
            says="Of cepstral coefficients 1 to 13 (loudness left out), frame by frame, unwarped: "
            "frames made in the right voice at the wrong time count as wrong.",
        ),
        "Boundaries within 20 ms of the truth, in %": _within(arms, 20, length),
        "Boundaries within 50 ms of the truth, in %": _within(arms, 50, length),
        "Phonemes that no frame points at, in %": by_tempo(arms, "skips", **options),
        "Phonemes pointed at again after others, in %": by_tempo(
            arms, "repeats", **options, says="Times that a phoneme is entered again, per phoneme."
        ),
        "Length guessed from phonemes alone": _guessed(arms),
    }
    return {heading: grid for heading, grid in tables.items() if grid.rows}


def _within(arms: list[ArmResult], tolerance: int, length: float) -> Grid:
    frames = int(tolerance / length)
    exact = "the very frame" if frames == 0 else f"{frames} frame{'s' if frames > 1 else ''} off"
    says = f"Both boundaries are whole frames of {length:.1f} ms: {tolerance} ms means {exact}."
    name = f"within_{tolerance}"
    return by_tempo(arms, name, digits=1, scale=100.0, says=says)


def _heard(arms: list[ArmResult]) -> Grid:
    grid = by_tempo(
        arms,
        HEARD,
        digits=1,
        scale=100.0,
        says="Substitutions, deletions and insertions per true phoneme, stress and pauses aside, "
        "as heard by a small classifier trained on the true frames of the training split. "
        "True frames: its own error.",
    )
    true = [f"{100.0 * arms[0].mean(f'true_{HEARD}@{name}'):.1f}" for name in grid.columns[1:]]
    grid.rows.append(["true frames", *true])
    return grid


def _guessed(arms: list[ArmResult]) -> Grid:
    rows = [
        [
            arm.name,
            f"{100.0 * arm.mean('guessed_length'):.1f}",
            f"{100.0 * arm.mean('spoken_phoneme_error'):.1f}",
        ]
        for arm in arms
    ]
    return Grid(
        ("arm", "length off by %", "phoneme error rate, %"),
        rows,
        "Mean of |guessed / true number of frames - 1| on test utterances, 64 at most (models are "
        "not told the rate of speaking), and what is heard in frames of the guessed number; models "
        "that go frame by frame stop by themselves.",
    )
