"""Code of one's own in modules: whatever an outcome may stand on changes the hash."""

import functools
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resonant.errors import UserError
from resonant.lab.kit.code.identity import digest, home_of, parts
from resonant.lab.kit.code.sent import packed, unpacked
from resonant.lab.kit.plugins import digest_of_plugins

WORKER = "import sys; from resonant.lab.kit.code.sent import unpacked; unpacked(sys.stdin.read())"


def hashed(script: str, *folders: Path) -> str:
    """What a script's ``train`` stands on, asked for in a process of its own."""
    code = script + "\nfrom resonant.lab.kit.code.identity import parts\nprint(parts(train))\n"
    done = subprocess.run(
        [sys.executable, "-"],
        input=code,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SCRIPTS = {
    "a module inside a folder without __init__": (
        "from pk.part import f\ndef train(arm, seed, run): return f()",
        "pk/part.py",
    ),
    "an import inside the function": (
        "def train(arm, seed, run):\n    from part import f\n    return f()",
        "part.py",
    ),
    "a package's module, imported inside the function": (
        "def train(arm, seed, run):\n    import pk.part\n    return pk.part.f()",
        "pk/part.py",
    ),
    "a module taken from its package": (
        "import pk.part\ndef train(arm, seed, run): return pk.part.f()",
        "pk/part.py",
    ),
    "a module that a module of another folder imports": (
        "import first\ndef train(arm, seed, run): return first.g()",
        "part.py",
    ),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_a_changed_module_is_noticed(case: str, tmp_path: Path) -> None:
    script, name = SCRIPTS[case]
    near, far = tmp_path / "near", tmp_path / "far"
    file = far / name
    file.parent.mkdir(parents=True)
    near.mkdir()
    (near / "first.py").write_text("from part import f\ndef g(): return f()\n")
    file.write_text("def f(): return 1\n")
    before = hashed(script, near, far)
    assert hashed(script, near, far) == before
    file.write_text("def f(): return 2\n")
    assert hashed(script, near, far) != before


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of one's own, imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "settings_of_mine.py").write_text(SOURCE)
    yield importlib.import_module("settings_of_mine")
    del sys.modules["settings_of_mine"]


SOURCE = """
import numpy as np
LR, SIZES, ARRAY = 0.1, [1, {"a": (2,)}], np.zeros(3)
def helper():
    return SIZES
def train(arm, seed, run):
    return LR, helper(), train.scale, ARRAY, Model
train.scale = 2
class Model:
    width = 3
    def size(self):
        return self.width * LR
"""
CHANGES: dict[str, Any] = {
    "a setting": lambda module: setattr(module, "LR", 50),
    "a setting of what is called": lambda module: module.SIZES.append(3),
    "an attribute of the function": lambda module: setattr(module.train, "scale", 3),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_caller_sets_in_a_module_is_noticed(module: Any, change: str) -> None:
    before = digest(module.train), parts(module.train)
    assert (digest(module.train), parts(module.train)) == before
    CHANGES[change](module)
    assert digest(module.train) != before[0]
    assert parts(module.train) != before[1]


def test_what_the_caller_sets_in_a_class_is_noticed(module: Any) -> None:
    before = digest(module.Model())
    module.Model.width = 4
    changed = digest(module.Model())
    assert changed != before
    module.LR = 2
    assert digest(module.Model()) != changed


def test_workers_refuse_what_they_do_not_find(module: Any, tmp_path: Path) -> None:
    """A setting that a fresh import lacks; a source that changed since it was planned."""

    def worker(text: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", WORKER], input=text, capture_output=True, text=True, check=False
        )
        return done.stderr

    assert worker(packed(module.train, "it")) == ""
    plain = packed(module.train, "it")
    for name, value in (
        ("LR", 50),
        ("SIZES", [3]),
        ("ARRAY", np.ones(3)),
        ("helper", lambda: 3),
    ):
        before = getattr(module, name)
        setattr(module, name, value)
        said = f"settings_of_mine.{name} was set to another value"
        assert said in worker(packed(module.train, "it")), name
        unpacked(packed(module.train, "it"))  # here it is what it is
        setattr(module, name, before)
    module.Model.width = 4
    said = "settings_of_mine.Model was set to another value"
    assert said in worker(packed(module.train, "it"))
    module.Model.width = 3
    assert worker(packed(module.train, "it")) == ""
    (tmp_path / "settings_of_mine.py").write_text(SOURCE.replace("LR * ", "LR + ") + "\nNEW = 1\n")
    assert "the source of settings_of_mine, or of what it imports, changed" in worker(plain)


def test_code_that_is_not_what_its_file_says_is_refused(module: Any, tmp_path: Path) -> None:
    path = tmp_path / "settings_of_mine.py"
    path.write_text("# a remark\n" + SOURCE)  # lines move, the code stays
    digest(module.train)
    path.write_text(SOURCE.replace("return LR,", "return LR + 1,"))
    with pytest.raises(UserError, match=r"settings_of_mine.py changed since .* was imported"):
        digest(module.train)
    digest(module.train, home_of(module.train))  # by what it is, not by its file


def test_the_function_s_own_module_counts_by_what_is_read(module: Any, tmp_path: Path) -> None:
    """An arm added beside the function changes nothing; the whole file would have changed."""
    before, source = parts(module.train), digest_of_plugins(["settings_of_mine"])
    (tmp_path / "settings_of_mine.py").write_text(
        SOURCE + "\nclass Another(Model):\n    width = 9\n"
    )
    again = importlib.reload(module)
    assert parts(again.train) == before
    assert digest_of_plugins(["settings_of_mine"]) != source


def test_a_lock_in_a_global_hides_nothing_beside_it(tmp_path: Path) -> None:
    script = "import threading\nheld = [threading.Lock(), 1]\ndef train(a, s, r): return held"
    before = hashed(script, tmp_path)
    assert hashed(script, tmp_path) == before
    assert hashed(script.replace("1]", "2]"), tmp_path) != before


def test_partials_and_methods_have_the_home_of_what_they_call(module: Any) -> None:
    assert home_of(functools.partial(module.train, 1)) == "settings_of_mine"
    assert home_of(module.Model().size) == "settings_of_mine"
    assert home_of(module.Model()) == "settings_of_mine"
    assert json.loads(packed(module.train, "it"))["modules"].keys() == {"settings_of_mine"}


def test_a_script_s_settings_of_its_modules_are_seen_by_workers(tmp_path: Path) -> None:
    """``helper.LR = 3`` where the script's own function reads ``helper.LR``."""
    (tmp_path / "helper_of_mine.py").write_text("LR = 1\nCONF = {'lr': 1}\n")
    for change in ("helper_of_mine.LR = 3", "helper_of_mine.CONF['lr'] = 3"):
        script = (
            "import helper_of_mine\nfrom resonant.lab.kit.code.sent import packed\n"
            "def train(a, s, r): return helper_of_mine.LR, helper_of_mine.CONF\n"
            f"{change}\nprint(packed(train, 'it'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        worker = subprocess.run(
            [sys.executable, "-c", WORKER],
            input=done.stdout,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        name = change.split("=")[0].split("[")[0].strip()
        assert f"{name} was set to another value" in worker.stderr


def test_hooks_of_a_model_count() -> None:
    def hooked(factor: int) -> torch.nn.Module:
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 2)
        model.register_forward_hook(functools.partial(scaled, factor))
        return model

    assert digest(hooked(2)) == digest(hooked(2))
    assert len({digest(hooked(2)), digest(hooked(5)), digest(torch.nn.Linear(2, 2))}) == 3


def scaled(factor: int, _: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
    return factor * output


def test_packages_above_a_module_count(tmp_path: Path) -> None:
    script = "import pk.sub.part\ndef train(a, s, r): return pk.sub.part.f()"
    (tmp_path / "pk" / "sub").mkdir(parents=True)
    for name in ("__init__", "sub/__init__", "sub/part"):
        (tmp_path / "pk" / f"{name}.py").write_text("def f(): return 1\n")
    (tmp_path / "first.py").write_text("import pk.sub.part\ndef f(): return pk.sub.part.f()")
    through = "import first\ndef train(a, s, r): return first.f()"
    before = hashed(script, tmp_path), hashed(through, tmp_path)
    (tmp_path / "pk" / "__init__.py").write_text("def f(): return 2\n")
    assert hashed(through, tmp_path) != before[1]
    assert hashed(script, tmp_path) != before[0]
