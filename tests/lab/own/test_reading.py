"""Folders of comparisons of one's own, damaged: one sentence each, never a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest

import resonant
from resonant.errors import UserError
from resonant.lab.own.reading import read_compared

from .mine import odd

SWEPT = [{"arm": "fine", "values": {"lr": 1}, "score": 1.0}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "out"
    resonant.compare(
        {"fine": "fine", "other": "other"}, odd, seeds=2, out=out, workers=0, show=False
    )
    return out


@pytest.mark.parametrize(
    "changed",
    [
        {"control": "zz"},
        {"seeds": [5, 6]},
        {"seeds": [0, 0, 1]},
        {"folders": [{"arm": "fine", "seed": 0, "name": ".."}]},
        {"swept": SWEPT},
        {"swept": SWEPT, "choose_by": "mse"},
        {"swept": [*SWEPT, {"arm": "other", "values": {}, "score": 1.0}]},
        {"arms": [{"name": "fine", "says": ""}]},
        {"better": {"mse": "more"}},
    ],
    ids=str,
)
def test_a_description_whose_parts_do_not_fit_is_named(
    folder: Path, changed: dict[str, Any]
) -> None:
    path = folder / "arms.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | changed))
    try:
        with pytest.raises(UserError, match=r"arms.json is damaged \("):
            read_compared(folder)
    finally:
        path.write_text(before)
    assert read_compared(folder).arms == ["fine", "other"]


@pytest.mark.parametrize("name", ["arms.json", "fine-seed0/scores.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'"x"'], ids=str)
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        with pytest.raises(UserError, match=f"{path.name} is damaged"):
            read_compared(folder)
    finally:
        path.write_bytes(before)


def test_scores_of_another_run_are_refused(folder: Path) -> None:
    path = folder / "fine-seed0" / "scores.json"
    before = path.read_text()
    path.write_text((folder / "other-seed0" / "scores.json").read_text())
    try:
        with pytest.raises(UserError, match="it is of the arm 'other'"):
            read_compared(folder)
    finally:
        path.write_text(before)
