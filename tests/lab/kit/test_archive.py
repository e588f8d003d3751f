"""Comparisons in one file: what is in it, what it is refused for, that pages come out the same."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab.kit.archive import opened, pack, unpack
from resonant.lab.kit.results import gather

from ..report.test_report import comparison


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished comparison, with files that no archive holds."""
    out = comparison(tmp_path / "trial")
    (out / ".lock").touch()
    for name in ("softmax-seed0/model.safetensors", "softmax-seed1/model.safetensors", "notes"):
        (out / name).write_bytes(b"x")
    (out / "other").mkdir()
    (out / "other" / "config.yaml").write_text("of no run here")
    return out


def test_the_same_runs_make_the_same_bytes_and_come_back(runs: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    count, left = pack(runs, first)
    for path in runs.rglob("*"):
        path.touch()  # times are no part of it
    pack(runs, second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(left) == [
        "notes",
        "other/config.yaml",
        "softmax-seed0/model.safetensors",
        "softmax-seed1/model.safetensors",
    ]
    with opened(first) as directory:
        back = {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*.*")}
        assert len(back) == count == 9 * 3 + 3 * 2 + 2  # learned scalars and arrays of first seeds
        assert all((runs / name).read_bytes() == content for name, content in back.items())
        assert gather(directory) == gather(runs)
    assert not directory.exists()
    with opened(runs) as directory:
        assert directory == runs


def test_tables_pictures_and_page_are_those_of_the_folder(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "packed" / "trial.zip"
    assert main(["pack", str(runs), str(file)]) == 0
    said = capsys.readouterr().out
    assert "35 files" in said
    assert "left out: config.yaml, 2 x model.safetensors, notes" in said
    printed = []
    for given, figures in ((runs, "of_folder"), (file, "of_file")):
        target = tmp_path / figures
        assert main(["report", str(given), "--markdown", "--figures", str(target)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    folder, packed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("of_folder", "of_file")
    )
    assert len(folder) > 3
    assert folder == packed
    page = (file.with_suffix("") / "report.html").read_text()
    assert page.replace(str(file), str(runs)) == (runs / "report.html").read_text()
    assert [path.name for path in file.with_suffix("").iterdir()] == ["report.html"]


def test_what_cannot_be_packed_is_said(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trial.zip"
    pack(runs, file)
    (runs / "softmax-seed2" / "done.json").unlink()
    for arguments, says in (
        ([str(runs), str(tmp_path / "trial.gz")], "an archive's name ends in .zip"),
        ([str(runs), str(file)], "exists; choose another name, or pass --overwrite"),
        ([str(runs), str(file), "--overwrite"], "softmax-seed2 is not finished"),
        ([str(tmp_path / "nowhere"), str(tmp_path / "b.zip")], "holds no comparison"),
        ([str(file), str(tmp_path / "b.zip")], "holds no comparison"),
    ):
        assert main(["pack", *arguments]) == 2
        assert says in capsys.readouterr().err


def rewritten(file: Path, name: str, content: str, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(file, "a", method) as archive:
        archive.writestr(name, content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def flip(file: Path) -> None:
    """One bit in the middle of a member."""
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def bare(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("softmax-seed0/done.json", "{}")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "is damaged, or no archive of `resonant pack`"),
        (flip, "is damaged, or no archive of `resonant pack`"),
        (lambda file: file.write_text("runs"), "is damaged, or no archive of `resonant pack`"),
        (lambda file: file.write_bytes(b""), "is damaged, or no archive of `resonant pack`"),
        (bare, "holds no comparison.json"),
        (lambda file: rewritten(file, "../done.json", "{}"), "holds '../done.json'"),
        (lambda file: rewritten(file, "/tmp/done.json", "{}"), "holds '/tmp/done.json'"),
        (lambda file: rewritten(file, "a/../../done.json", "{}"), "holds 'a/../../done.json'"),
        (lambda file: rewritten(file, "a/b/c/done.json", "{}"), "holds 'a/b/c/done.json'"),
        (lambda file: rewritten(file, "a/run.py", ""), "holds 'a/run.py'"),
        (lambda file: rewritten(file, "a/x.npz", "", zipfile.ZIP_LZMA), "holds 'a/x.npz'"),
    ],
    ids=["cut", "bit", "text", "empty", "bare", "up", "root", "through", "deep", "code", "lzma"],
)
def test_a_strange_file_is_refused_in_words(
    runs: Path, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    file = tmp_path / "trial.zip"
    pack(runs, file)
    damage(file)
    with pytest.raises(UserError, match=says):
        unpack(file, tmp_path / "out" / "in")
    assert not (tmp_path / "done.json").exists()
    assert not (tmp_path / "out" / "done.json").exists()


def test_a_name_that_no_archive_may_hold_is_refused_before_it_is_written(
    runs: Path, tmp_path: Path
) -> None:
    (runs / "softmax-seed0" / "a name.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds 'softmax-seed0/a name\.npz'"):
        pack(runs, tmp_path / "trial.zip")
    assert not (tmp_path / "trial.zip").exists()
