"""Tables of alignment where some arms were tested under conditions that others were not."""

from typing import Any

from resonant.lab.alignment.tables import alignment_tables
from resonant.lab.kit.results import ArmResult, Results

HARDER = "Differences of boundary error under harder conditions, in frames"


def arm(name: str, control: str | None, *conditions: str, **metrics: float) -> ArmResult:
    names = ("boundary_error", "stretched_boundary_error", "loss", "lost", "lost_at_end")
    found = {f"{metric}@{c}": 2.0 for metric in names for c in ("0.6", "1", *conditions)}
    details = ("correct", "within", "duration_error", "search_boundary_error", "focus", "skips")
    found |= {f"{each}@1": 0.5 for each in (*details, "repeats", "early_stop", "falls")}
    runs: list[dict[str, Any]] = [
        {"metrics": {key: value + seed for key, value in (found | metrics).items()}}
        for seed in range(3)
    ]
    return ArmResult(name, "", control, runs, [], None, None, "")


def results(*arms: ArmResult) -> Results:
    made = Results.__new__(Results)
    for name, value in {"arms": list(arms), "compared": (), "unit": "squared error"}.items():
        object.__setattr__(made, name, value)
    return made


def test_what_some_arms_lack_is_left_blank_and_hides_nothing() -> None:
    paced = {f"free_{n}@0.7": 0.5 for n in ("no_stop", "length", "boundary_error", "skips")}
    paced |= {f"free_{n}@0.7": 0.5 for n in ("duration_error", "repeats", "early_stop")}
    tables = alignment_tables(
        results(
            arm("softmax", None),
            arm("next-softmax", None, "2.5"),
            arm("next-clock", "next-softmax", "2.5", **paced),
        )
    )
    errors = tables["Boundary error by tempo, in frames"]
    assert errors.columns == ("arm", "0.6", "1", "2.5")
    assert [row[3] for row in errors.rows] == ["", "3.00", "3.00", "3.00"]  # the last: stretched
    lost = tables["Utterances that lose their place, in %"]
    assert [row[3] for row in lost.rows] == ["", "300.0", "300.0"]
    assert tables[HARDER].columns == ("arm", "control", "2.5")
    assert tables[HARDER].rows == [["next-clock", "next-softmax", "+0.00 ± 0.00 (1.00)"]]
    decoded = tables["Decoding at 0.7 times the tempo of training, on purpose"]
    assert [row[0] for row in decoded.rows] == ["next-clock"]
    assert "A frame counts as 0.7 frames" in decoded.legend


def test_where_nothing_harder_was_tested_there_is_no_such_table() -> None:
    tables = alignment_tables(results(arm("softmax", None), arm("clock", "softmax")))
    assert HARDER not in tables
    assert tables["Boundary error by tempo, in frames"].columns == ("arm", "0.6", "1")
