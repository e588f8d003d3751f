"""Twelve ways of damage to every file of a run, in every command that reads it: never a traceback.

Status 2 and a sentence that names the file, or nothing where the command does not need it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from resonant.cli.main import main
from resonant.lab.alignment.conditions import ALIGNMENT
from resonant.lab.kit.contents import write_arrays
from resonant.lab.speech.config import SCALES
from resonant.lab.text.tokens import CHARACTERS
from resonant.lab.vision.config import CLASSES

from ..lab.running import TINY, compare, write_text

RUN = "krause-window-topk-seed0"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 0x40
    return bytes(changed)


def other_kinds(content: bytes) -> bytes:
    """Every value of another kind, where the file has names."""
    try:
        values = json.loads(content)
    except ValueError:
        return b"model: 3\ndata: [1, 2]\ntraining: text\n"
    return json.dumps({key: [[{}]] for key in values} if isinstance(values, dict) else 3).encode()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "blank": lambda _: b"\n \n",
    "no-values": lambda _: b"{}",
    "list": lambda _: b"[]",
    "null": lambda _: b"null",
    "number": lambda _: b"7",
    "not-utf8": lambda _: '{"a": "é"}'.encode("latin-1"),
    "cut": lambda content: content[: len(content) // 2],
    "flipped": flipped,
    "picture": lambda _: PNG,
    "other-kinds": other_kinds,
    "deep": lambda _: b"[" * 100_000,
}
# What each command reads; others are ignored by it.
FILES: dict[str, tuple[str, ...]] = {
    "report": (
        "config.yaml",
        "done.json",
        "metrics.csv",
        "learned.csv",
        "diagnosis.npz",
        ALIGNMENT,
    ),
    "pack": ("config.yaml", "done.json", "metrics.csv", "diagnosis.npz"),
    "sample": ("config.json", "model.safetensors", CHARACTERS, "config.yaml"),
    "check": ("config.json", "model.safetensors", "config.yaml"),
    "diagnose": ("config.json", "model.safetensors", CHARACTERS, "done.json", "config.yaml"),
    "speak": (SCALES, "config.json", "model.safetensors"),
    "again": ("config.yaml", "done.json"),
    "against": ("config.yaml", "done.json", "metrics.csv"),
    "predict": (CLASSES,),
}
OF_THE_COMPARISON = {
    "report": ("comparison.json", "probe.json", "sweep.json"),
    "pack": ("comparison.json",),
    "against": ("comparison.json", "probe.json"),
}
CASES = [
    (command, name, how)
    for command, names in FILES.items()
    for name in (*names, *OF_THE_COMPARISON.get(command, ()))
    for how in DAMAGE
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of one small run, with files of other domains beside its own."""
    folder = tmp_path_factory.mktemp("whole")
    finished = compare(write_text(folder), folder / "out", "--data.tokens=characters")
    assert (folder / "out" / "report.html").is_file(), finished.stderr
    run = folder / "out" / RUN
    write_arrays(run / ALIGNMENT, {"weights": np.zeros((3, 4)), "durations": np.zeros(4)})
    scales = {"voices": ["a"], "symbols": ["b"], "mean": [0.0], "spread": [1.0], "hop": 256}
    (run / SCALES).write_text(json.dumps(scales))
    classes = {"classes": ["a", "b"], "mean": [0.0], "deviation": [1.0], "side": 8, "pool": 1}
    (run / CLASSES).write_text(json.dumps(classes))
    rates = {"rates": [0.004], "seed": 0, "losses": {"krause-window-topk": {"0.004": 1.0}}}
    (folder / "out" / "sweep.json").write_text(json.dumps(rates))
    return folder


def arguments(command: str, folder: Path, text: Path) -> list[str]:
    out, run = folder / "out", folder / "out" / RUN
    again = ["compare", "stdlib", "--data.name=file", f"--data.path={text}"]
    return {
        "report": ["report", str(out)],
        "pack": ["pack", str(out), str(folder / "x.zip")],
        "sample": ["sample", str(run), "--tokens=2"],
        "check": ["check", str(run), "--checks=causality", "--length=13"],
        "diagnose": ["diagnose", str(run)],
        "speak": ["speak", str(run), "a"],
        "against": [*again, "--out=new", f"--against={out}", "--data.tokens=characters", *TINY],
        "predict": ["predict", str(run), "a.png"],
        "again": [*again, f"--out={out}", "--data.tokens=characters", *TINY],
    }[command]


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first builds a comparison
@pytest.mark.parametrize(("command", "name", "how"), CASES, ids=["-".join(c) for c in CASES])
def test_damage_is_said_in_a_sentence(
    command: str,
    name: str,
    how: str,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)
    run = folder / "out" / RUN
    path = folder / "out" / name if (folder / "out" / name).is_file() else run / name
    before = path.read_bytes()
    path.write_bytes(DAMAGE[how](before))
    status = main(arguments(command, folder, whole / "text.txt"))
    said = capsys.readouterr().err
    assert "Traceback" not in said
    if status != 0:
        lines = [line for line in said.splitlines() if line.startswith("resonant: ")]
        assert status == 2, said
        assert len(lines) == 1, said
    tolerated = unneeded(command, name, how)
    assert tolerated or status == 2, said or "accepted"
    assert tolerated or name in said, said


def unneeded(command: str, name: str, how: str) -> bool:
    """Whether a command may well go on: it does not read that part of the file.

    A flipped bit in text may leave a value of the right kind; columns may be empty where nothing
    was learned; arrays of another domain are not read.
    """
    if how == "flipped" and name not in ("model.safetensors", "diagnosis.npz", CHARACTERS):
        return True
    return (command, name) in {("report", ALIGNMENT), ("report", "learned.csv")} or (
        command == "speak" and name != SCALES
    )
