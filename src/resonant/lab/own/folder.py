"""The folders of comparisons of one's own: what their files are called and must hold."""

from __future__ import annotations

from pathlib import Path

from ..kit.contents import (
    ANYTHING,
    INTEGER,
    NOTHING,
    NUMBER,
    TEXT,
    by_name,
    either,
    list_of,
    record,
)
from ..kit.folder import OWN as COMPARISON

# Of a run.
RUN = "run.json"
SCORES = "scores.json"
LOG = "log.jsonl"
TRACEBACK = "error.txt"

HELD_COMPARISON = record(
    {
        "says": TEXT,
        "arms": list_of(record({"name": TEXT, "says": TEXT}), least=1),
        "control": TEXT,
        "seeds": list_of(INTEGER, least=1),
        "better": by_name({"enum": ["lower", "higher"]}),
        "chosen": by_name(ANYTHING),
        "folders": list_of(record({"arm": TEXT, "seed": INTEGER, "name": TEXT}), least=1),
        "choose_by": either(TEXT, NOTHING),
        "swept": list_of(
            record({"arm": TEXT, "values": ANYTHING, "score": either(NUMBER, NOTHING)})
        ),
        "failed": by_name(TEXT),
    },
)
HELD_RUN = record({"arm": TEXT, "seed": INTEGER, "stands_on": ANYTHING})
HELD_SCORES = record(
    {"hash": TEXT, "arm": TEXT, "seed": INTEGER, "metrics": by_name(NUMBER), "seconds": NUMBER},
    {"made_with": list_of(by_name(TEXT), least=1), "here": {"type": "boolean"}},
)


def is_own(directory: Path) -> bool:
    """Say whether a folder holds a comparison of one's own function."""
    return (directory / COMPARISON).is_file()
