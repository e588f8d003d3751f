"""Arms of one's own beside those of another comparison, as controls too, never trained again."""

import json
from pathlib import Path

import pytest

from resonant.cli.main import main

from ..committed import RESULTS
from ..running import resonant

PLUGIN = "--plugins=tests.lab.toy.domain"
TOY = ["curves", PLUGIN, "--workers=2", "--training.steps=20"]


def compare(out: Path, arms: str, *more: str, fault: str | None = None) -> tuple[int, str, str]:
    done = resonant("compare", *TOY, f"--out={out}", f"--arms={arms}", *more, fault=fault)
    return done.returncode, done.stdout, done.stderr


def losses(out: Path) -> dict[str, float]:
    """Test losses of every run by its folder."""
    found = sorted(out.glob("*-seed*/done.json"))
    return {p.parent.name: json.loads(p.read_text())["metrics"]["test_loss"] for p in found}


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of two arms under two seeds."""
    folder = tmp_path_factory.mktemp("committed")
    status, _, error = compare(folder / "runs", "tanh,line", "--seeds=2")
    assert status == 0, error
    packed = resonant("pack", str(folder / "runs"), str(folder / "old.zip"))
    assert packed.returncode == 0, packed.stderr
    return folder / "old.zip"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three arms trained here."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert compare(out, "tanh,relu,line", "--seeds=2")[0] == 0
    return out


@pytest.mark.slow
def test_a_control_comes_from_the_archive(committed: Path, whole: Path, tmp_path: Path) -> None:
    """Killed after its first run of theirs, too: what is there is kept."""
    out, against = tmp_path / "out", f"--against={committed}"
    assert compare(out, "relu", "--seeds=2", against, fault="run-adopted:2")[0] != 0
    status, said, error = compare(out, "relu", "--seeds=2", against)
    assert status == 0, error
    assert "old.zip: tanh, line (beside)" in said
    assert "2 runs in" in said  # its own alone
    assert losses(out) == losses(whole)
    ours, theirs = (
        {arm["name"]: arm for arm in json.loads((d / "comparison.json").read_text())["arms"]}
        for d in (out, whole)
    )
    assert ours == theirs
    assert "Trained there, not here: tanh, line (of old.zip)." in " ".join(said.split())
    assert "Not measured here: tanh, line." in " ".join(said.split())
    again = resonant("report", str(out), "--markdown", PLUGIN).stdout
    row = next(line for line in again.splitlines() if line.startswith("| relu"))
    assert row in resonant("report", str(whole), "--markdown", PLUGIN).stdout
    packed = resonant("pack", str(out), str(tmp_path / "both.zip"))
    assert packed.returncode == 0
    assert resonant("report", str(tmp_path / "both.zip"), "--markdown", PLUGIN).stdout == again


@pytest.mark.slow
def test_an_arm_that_is_the_very_same_is_not_trained_again(committed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said, error = compare(out, "tanh,relu", "--seeds=2", f"--against={committed}")
    assert status == 0, error
    assert "old.zip: tanh (the very same as here, not trained again)" in said
    assert "tanh-seed0: done" not in said
    assert "relu-seed0: done" in said


@pytest.mark.slow
def test_a_namesake_that_is_another_is_called_by_the_archive(
    committed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, said, error = compare(
        out, "tanh", "--seeds=2", "--model.width=8", f"--against={committed}"
    )
    assert status == 0, error
    assert "old.zip: tanh@old, line (beside)" in said
    assert "tanh - tanh@old" in said
    described = json.loads((out / "comparison.json").read_text())
    controls = {arm["name"]: arm["control"] for arm in described["arms"]}
    assert controls == {"tanh": None, "tanh@old": None, "line": "tanh@old"}
    assert len(set(losses(out).values())) == 6


@pytest.mark.slow
def test_an_archive_of_any_name_makes_a_comparison_that_can_be_packed(
    committed: Path, tmp_path: Path
) -> None:
    named = tmp_path / "my old (2) runs.zip"
    named.write_bytes(committed.read_bytes())
    out = tmp_path / "out"
    status, said, error = compare(out, "tanh", "--seeds=2", "--model.width=8", f"--against={named}")
    assert status == 0, error
    assert "tanh - tanh@my-old-2-runs" in said
    packed = resonant("pack", str(out), str(tmp_path / "new.zip"))
    assert packed.returncode == 0, packed.stderr


@pytest.mark.slow
def test_what_was_swept_here_has_its_table(committed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said, error = compare(
        out, "relu", "--seeds=2", f"--against={committed}", "--sweep=lr=0.01,0.02"
    )
    assert status == 0, error
    again = resonant("report", str(out), "--markdown", PLUGIN).stdout
    for each in (said, again):
        assert "lr 0.02" in each
    rows = [line for line in again.splitlines() if line.startswith("| relu")]
    assert any("*" in row for row in rows)
    assert "Trained there, not here: tanh, line (of old.zip)." in again


def test_what_cannot_stand_beside_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["compare", "digits", "--arms=softmax", f"--out={tmp_path / 'out'}"]
    archive = f"--against={RESULTS / 'digits.zip'}"
    for more, says in (
        (["--seeds=2", archive], "here they are 0, 1; pass --seeds 5"),
        (["--estimate=20", archive], "leave one of them out"),
        ([f"--against={tmp_path / 'no.zip'}"], "there is no"),
    ):
        assert main([*given, *more]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--seeds=3"], "the seeds of tanh are 0, 1, here they are 0, 1, 2; pass --seeds 2"),
        (["--seeds=2", "--training.batch_size=8"], "training.batch_size 32, here 8; give the same"),
        (["--seeds=2", "--data.noise=0.2"], "tanh has data of another hash; give the same"),
    ],
)
def test_what_is_not_paired_is_refused(
    committed: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    out = tmp_path / "out"
    status, _, error = compare(out, "relu", *options, f"--against={committed}")
    assert status == 2
    assert says in error
    assert not out.exists()
