"""What a number stands on: plugins, checkpoints, metrics, versions; and losses that are none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.files import sealed, unsealed, why_not_whole, write_sums
from resonant.lab.kit.machine import this_machine, with_this_machine
from resonant.lab.kit.metrics import check_whole, read_metrics
from resonant.lab.kit.optimizer import Diverged, check_finite
from resonant.lab.kit.plugins import digest_of_plugins, import_plugins, import_plugins_of
from resonant.lab.kit.results import gather
from resonant.lab.report.table import quality
from resonant.models.weights import load_weights, save_weights

from ..running import TINY, compare, resonant, write_text

RUN = "krause-window-topk-seed0"
PLUGIN = "import helper_of_mine\nfrom resonant import register\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    ran = compare(write_text(folder), folder / "out")
    assert (folder / "out" / "report.html").is_file(), ran.stderr
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


# ---- plugins ------------------------------------------------------------------------------------


def test_the_source_of_a_plugin_and_of_what_it_imports_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "plugin_of_mine.py").write_text(PLUGIN)
    (tmp_path / "helper_of_mine.py").write_text("x = 1\n")
    first = digest_of_plugins(["plugin_of_mine"])
    assert first == digest_of_plugins(["plugin_of_mine"])
    (tmp_path / "helper_of_mine.py").write_text("x = 2\n")
    second = digest_of_plugins(["plugin_of_mine"])
    (tmp_path / "plugin_of_mine.py").write_text(PLUGIN + "\n")
    assert len({first, second, digest_of_plugins(["plugin_of_mine"])}) == 3
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("from . import inner\n")
    (package / "inner.py").write_text("import torch\n")
    whole = digest_of_plugins(["package_of_mine"])
    (package / "inner.py").write_text("import torch as t\n")
    assert digest_of_plugins(["package_of_mine"]) != whole
    assert digest_of_plugins([]) == digest_of_plugins(["resonant.lab.text.leaking_gate"]) == ""


@pytest.mark.slow
def test_a_changed_plugin_is_another_configuration(tmp_path: Path) -> None:
    text, out = write_text(tmp_path), tmp_path / "out"
    plugin = tmp_path / "changing_plugin.py"
    plugin.write_text("x = 1\n")
    options = ["--plugins=changing_plugin"]
    first = _from(tmp_path, text, out, *options)
    assert (out / "report.html").is_file(), first
    plugin.write_text("x = 2\n")
    assert "holds a run of another configuration (sources was" in _from(
        tmp_path, text, out, *options
    )
    assert "Traceback" not in _from(tmp_path, text, out, *options, "--overwrite")


def _from(folder: Path, text: Path, out: Path, *more: str) -> str:
    """A comparison from another current folder, as a user has it; what it says of errors."""
    source = [f"--data.path={text}", "--data.name=file", f"--out={out}"]
    command = [
        sys.executable,
        "-m",
        "resonant.cli.main",
        "compare",
        "stdlib",
        *source,
        *TINY,
        *more,
    ]
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=dict(os.environ), check=False
    )
    return ran.stderr


def test_a_file_has_no_plugin_imported(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither for being named in a run, nor from inside the run's folder if it is asked for."""
    run = copy / "out" / RUN
    config = run / "config.yaml"
    text = config.read_text()
    assert "plugins: []" in text
    config.write_text(text.replace("plugins: []", "plugins: [strange_plugin]"))
    (run / "strange_plugin.py").write_text("raise SystemExit('it ran')\n")
    monkeypatch.chdir(run)
    for command in ("sample", "diagnose", "check"):
        assert main([command, "."]) == 2
        said = capsys.readouterr().err
        assert "the plugins strange_plugin, which are code" in said
        assert "--plugins strange_plugin" in said
        assert main([command, ".", "--plugins", "strange_plugin"]) == 2
        assert "it is not looked for in the run's own folder" in capsys.readouterr().err
    assert "strange_plugin" not in sys.modules


def test_the_current_folder_hides_no_module_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "random.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "my_plugin_here.py").write_text("import random\nrandom.random()\n")
    import_plugins(["my_plugin_here"])
    assert sys.path[-1] == str(tmp_path)
    (tmp_path / "bad_syntax_plugin.py").write_text("def (\n")
    (tmp_path / "exiting_plugin.py").write_text("raise SystemExit(3)\n")
    for name in ("bad_syntax_plugin", "exiting_plugin"):
        with pytest.raises(UserError, match=f"the plugin '{name}' raises"):
            import_plugins_of(None, name)


# ---- checkpoints, weights, metrics --------------------------------------------------------------


def test_one_bit_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    whole = sealed(bytes(range(256)) * 4)
    path.write_bytes(whole)
    assert unsealed(path) == bytes(range(256)) * 4
    for place in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UserError, match="its checksum does not fit its content"):
            unsealed(path)
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
            unsealed(path)


def test_weights_have_a_checksum_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(0)}, "x")
    assert torch.equal(load_weights(path)["a"], torch.arange(6.0).reshape(2, 3))
    whole = bytearray(path.read_bytes())
    whole[-2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="its checksum does not fit"):
        load_weights(path)


def test_folders_of_others_are_whole_or_not(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("config.json", "inner/weights.bin"):
        (tmp_path / name).write_text(name)
    assert "sums.json is missing" in str(why_not_whole(tmp_path))
    write_sums(tmp_path)
    assert why_not_whole(tmp_path) is None
    (tmp_path / "inner" / "weights.bin").write_text("other")
    assert why_not_whole(tmp_path) == "the checksum of inner/weights.bin does not fit its content"
    (tmp_path / "inner" / "weights.bin").unlink()
    assert why_not_whole(tmp_path) == "inner/weights.bin is missing"


@pytest.mark.slow
def test_a_flipped_checkpoint_is_refused_and_lost_rows_come_back(
    copy: Path, finished: Path
) -> None:
    run, text = copy / "out" / RUN, finished / "text.txt"
    before = (run / "metrics.csv").read_text()
    (run / "done.json").unlink()
    (run / "metrics.csv").write_text("".join(before.splitlines(keepends=True)[:2]))
    compare(text, copy / "out")
    assert (run / "metrics.csv").read_text() == before  # the checkpoint holds its rows
    (run / "done.json").unlink()
    changed = bytearray((run / "last.ckpt").read_bytes())
    changed[len(changed) // 2] ^= 1
    (run / "last.ckpt").write_bytes(changed)
    refused = compare(text, copy / "out")
    assert refused.returncode == 2
    assert "last.ckpt is damaged (its checksum" in refused.stderr


@pytest.mark.parametrize("lost", ["row", "last row", "newline", "all"])
def test_a_lost_row_of_metrics_is_named(lost: str, copy: Path) -> None:
    path = copy / "out" / RUN / "metrics.csv"
    lines = path.read_text().splitlines(keepends=True)
    kept = {
        "row": [*lines[:2], *lines[3:]],
        "last row": lines[:-1],
        "newline": [*lines[:-1], lines[-1].rstrip("\n")],
        "all": lines[:1],
    }[lost]
    path.write_text("".join(kept))
    if lost == "row":  # one run alone does not tell: its seeds do
        with pytest.raises(UserError, match=r"metrics\.csv is damaged \(the row of step 4 is lost"):
            check_whole(path, read_metrics(path), last=6, of=[2.0, 4.0, 6.0])
        return
    with pytest.raises(UserError, match=r"metrics\.csv is damaged \(the row of step 6 is lost"):
        gather(copy / "out")


# ---- versions, losses ---------------------------------------------------------------------------


def test_a_run_says_what_it_was_made_with_and_its_hash_does_not(copy: Path) -> None:
    path = copy / "out" / RUN / "done.json"
    done: dict[str, Any] = json.loads(path.read_text())
    (made,) = done["made_with"]
    assert made == this_machine()
    assert set(made) == {"resonant", "torch", "python", "processor"}
    assert with_this_machine([made]) == [made]
    older = made | {"torch": "2.0.0"}
    assert with_this_machine([older]) == [older, made]
    assert "not all made with one" not in quality(gather(copy / "out")).legend
    path.write_text(json.dumps(done | {"made_with": [older, made]}))
    other = copy / "out" / "krause-window-topk-seed1"
    shutil.copytree(path.parent, other)
    (other / "done.json").write_text(json.dumps(done | {"seed": 1}))
    described = json.loads((copy / "out" / "comparison.json").read_text())
    described["runs"].append(other.name)
    (copy / "out" / "comparison.json").write_text(json.dumps(described))
    legend = quality(gather(copy / "out")).legend
    now = made["torch"]
    assert f"with one torch: 2.0.0, then {now} (1 runs), {now} (1 runs)." in legend
    assert "one python" not in legend


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_diverged(value: float) -> None:
    with pytest.raises(Diverged, match=r"the valid_loss at step 6 became .* in some-run; lower"):
        check_finite({"test_loss": 1.0, "valid_loss at step 6": value}, "some-run")


@pytest.mark.slow
def test_a_loss_that_becomes_none_at_the_last_step_is_said_each_time(tmp_path: Path) -> None:
    text, out = write_text(tmp_path), tmp_path / "out"
    options = ["--training.learning_rate=1e30", "--training.warmup=0", "--training.steps=1"]
    for _ in range(2):
        refused = compare(text, out, *options, "--training.evaluate_every=1")
        assert refused.returncode == 2, refused.stderr
        assert "became" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not list(out.glob("*/done.json"))
    assert resonant("report", str(out)).returncode == 2
