"""Hashes of values and functions: the same in another process, another when they change."""

import collections
import dataclasses
import datetime
import enum
import functools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resonant.errors import UserError
from resonant.lab.kit.code.identity import Untellable, digest, parts
from resonant.lab.kit.code.sent import importable, packed, unpacked
from resonant.lab.kit.plugins import digest_of_plugins

SCRIPT = """
import dataclasses, enum, functools, sys
import numpy as np
import torch
from resonant.lab.kit.code.identity import digest
RATE = 3
def helper(x):
    return x * RATE
@functools.cache
def cached(x):
    return helper(x)
def recursive(x):
    return recursive(x - 1) if x else other(x)
def other(x):
    return recursive(x) + cached(x)
class Base:
    scale = 2.0
    def apply(self, x):
        return x * self.scale
@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1
    names: tuple[str, ...] = ("a", "b")
class Kind(enum.Enum):
    ONE = 1
torch.manual_seed(0)
values = [recursive, Base, Base(), Config(), Kind.ONE,
          {"b": {3, "x", (1, 2)}, "a": frozenset("xyz")}, functools.partial(helper, 2),
          lambda x: x in {"p", "q"}, cached, torch.nn.Linear(2, 2),
          np.arange(3), Config().names, Base().apply, torch.float32, len, sys]
for value in values:
    first = digest(value)
    assert first == digest(value), value
    print(first)
"""


def run(code: str, seed: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-"],
        input=code,
        env=os.environ | {"PYTHONHASHSEED": seed},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    """Comments, lines and the order of sets are no content; a global of a global is."""
    before = run(SCRIPT, "1", tmp_path)
    assert len(set(before.split())) == 16
    moved = SCRIPT.replace("def helper(x):", "# a remark\n\n\ndef helper(x):  # here")
    assert run(moved, "2", tmp_path) == before
    changed = run(SCRIPT.replace("RATE = 3", "RATE = 4"), "1", tmp_path).split()
    same = [a == b for a, b in zip(before.split(), changed, strict=True)]
    assert [index for index, each in enumerate(same) if not each] == [0, 6, 8]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Holder:
    inside: Any = None


def made(number: float) -> Any:
    return lambda x: x + number


PAIRS: list[tuple[Any, Any]] = [
    (1, 1.0),
    (1, True),
    ("1", 1),
    ("1", b"1"),
    (0.0, -0.0),
    (None, "None"),
    ([1, 2], (1, 2)),
    ([1, 2], [2, 1]),
    ([[1], 2], [1, [2]]),
    ({"a": 1}, {"a": 2}),
    ({1, 2}, {1, 3}),
    ({1}, frozenset({1})),
    (Colour.RED, Colour.BLUE),
    (Holder(1), Holder(2)),
    (made(1.0), made(2.0)),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (torch.zeros(2), torch.zeros(2, 1)),
    (torch.zeros(2), torch.zeros(2).double()),
    (torch.zeros(2), torch.nn.Parameter(torch.zeros(2))),
    (np.zeros(2), np.ones(2)),
    (np.zeros(2), np.zeros(2, dtype=np.float32)),
    (np.array([1, "a"], dtype=object), np.array([1, "b"], dtype=object)),
    (datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)),
    (collections.OrderedDict(a=1), {"a": 1}),
    (collections.deque([1]), collections.deque([2])),
    (torch.float32, torch.float64),
    (len, max),
    (torch, np),
    (dict.fromkeys, list.append),
    (Path("a"), Path("b")),
    (range(3), range(4)),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=range(len(PAIRS)))
def test_what_differs_is_told_apart(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)
    assert digest(one) == digest(one)
    assert digest([one, other]) != digest([other, one])


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (made(1.0), made(1.0)),
        (Holder([1]), Holder([1])),
        (torch.arange(6).reshape(2, 3).t(), torch.arange(6).reshape(2, 3).t().contiguous()),
        ("".join(["a", "b"]), "ab"),
        (np.arange(6)[::2], np.array([0, 2, 4])),
    ],
    ids=range(6),
)
def test_what_is_the_same_is_the_same(one: Any, same: Any) -> None:
    assert digest(one) == digest(same)


def test_cycles_end() -> None:
    around: list[Any] = [1]
    around.append(around)
    again: list[Any] = [1]
    again.append(again)
    assert digest(around) == digest(again)
    assert digest(around) != digest([1, [1]])


@pytest.mark.parametrize(
    "value", [threading.Lock(), (x for x in "a"), sys.stdout], ids=["lock", "generator", "file"]
)
def test_what_has_no_content_is_said(value: Any) -> None:
    with pytest.raises(Untellable):
        digest({"inside": [value]})


def test_a_function_names_the_globals_that_it_reads(tmp_path: Path) -> None:
    code = SCRIPT.replace("for value in values:", "for value in ():") + (
        "from resonant.lab.kit.code.identity import parts\nprint(sorted(parts(other)))\n"
    )
    assert run(code, "1", tmp_path).strip() == "['code', 'global cached', 'global recursive']"
    assert parts(made(1.0)).keys() == {"code"}  # of a module: its file says all


def test_importable_names_only_what_a_fresh_process_finds() -> None:
    assert importable(Holder) == f"{__name__}:Holder"
    assert importable(Path) != ""
    assert importable(made(1.0)) == ""
    assert importable(3) == ""


def test_what_is_sent_comes_back() -> None:
    function, value = unpacked(packed((made(2.0), {"a": torch.ones(2)}), "a pair"))
    assert function(1.0) == 3.0
    assert torch.equal(value["a"], torch.ones(2))
    with pytest.raises(UserError, match="the arm cannot be sent to a worker"):
        packed(threading.Lock(), "the arm")
    with pytest.raises(UserError, match="cannot import or rebuild what it was sent"):
        unpacked(json.dumps({"path": sys.path, "sent": "AAAA"}))


def test_an_environment_inside_the_project_is_not_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sibling of D2: .venv lies in the folder of the plugin, and its packages are no source."""
    packages = tmp_path / ".venv" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "installed_thing.py").write_text("value = 1\n")
    (tmp_path / "beside.py").write_text("value = 1\n")
    (tmp_path / "own_plugin.py").write_text("import beside\nimport installed_thing\n")
    for folder in (tmp_path, packages):
        monkeypatch.syspath_prepend(str(folder))
    before = digest_of_plugins(["own_plugin"])
    (packages / "installed_thing.py").write_text("value = 2\n")
    assert digest_of_plugins(["own_plugin"]) == before
    (tmp_path / "beside.py").write_text("value = 2\n")
    assert digest_of_plugins(["own_plugin"]) != before
