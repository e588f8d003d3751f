"""Comparisons in one file: what is in it, what it is refused for, that pages come out the same."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab.kit.archive import opened, pack, unpack
from resonant.lab.kit.contents import read_arrays, write_arrays
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
        assert count == 9
        assert len(back) == 9 * 3 + 3 * 2 + 2  # learned scalars and arrays of first seeds
        for name, content in back.items():
            if name.suffix == ".npz":
                ours, theirs = (read_arrays(d / name) for d in (runs, directory))
                assert ours is not None
                assert theirs is not None
                assert all((ours[key] == theirs[key]).all() for key in ours.keys() | theirs.keys())
            elif name.suffix == ".csv":
                assert (runs / name).read_bytes() == content
            else:  # written on fewer lines than a run writes them
                assert yaml.safe_load((runs / name).read_text()) == yaml.safe_load(content)
        assert gather(directory) == gather(runs)
    assert not directory.exists()
    with opened(runs) as directory:
        assert directory == runs


def test_it_reads_as_lines_and_as_arrays(runs: Path, tmp_path: Path) -> None:
    """What a notebook would do, without this library."""
    pack(runs, tmp_path / "trial.zip")
    with zipfile.ZipFile(tmp_path / "trial.zip") as archive:
        described, *lines = map(json.loads, archive.read("runs.jsonl").splitlines())
    assert described["comparison"]["experiment"] == "trial"
    assert [line["run"] for line in lines[:2]] == ["krause-seed0", "krause-seed1"]
    losses = {line["run"]: line["done"]["metrics"]["test_loss"] for line in lines}
    assert losses["worse-seed1"] == 1.2
    assert lines[0]["metrics"]["step"] == [10, 20]
    assert lines[0]["config"] == {"data": {"name": "stdlib"}}
    with np.load(tmp_path / "trial.zip") as arrays:
        kept = read_arrays(runs / "krause-seed0" / "diagnosis.npz")
        assert kept is not None
        assert (arrays["krause-seed0/diagnosis/weights"] == kept["weights"]).all()


def test_tables_pictures_and_page_are_those_of_the_folder(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "packed" / "trial.zip"
    assert main(["pack", str(runs), str(file)]) == 0
    said = capsys.readouterr().out
    assert "9 runs" in said
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


def test_a_page_of_another_comparison_is_not_written_over(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.zip"
    pack(runs, file)
    shutil.copytree(runs, tmp_path / "other")
    described = tmp_path / "other" / "comparison.json"
    assert main(["report", str(file)]) == 0  # it is the very same
    described.write_text(described.read_text().replace("softmax", "sofamax"))
    (tmp_path / "other" / "report.html").write_text("theirs")
    assert main(["report", str(file)]) == 2
    assert "which holds another comparison; rename the archive" in capsys.readouterr().err
    assert (tmp_path / "other" / "report.html").read_text() == "theirs"


def test_errors_name_the_archive_and_not_the_folder_that_goes(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trial.zip"
    pack(runs, file)
    with zipfile.ZipFile(file) as archive:
        lines = archive.read("runs.jsonl").decode().splitlines(keepends=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("runs.jsonl", "".join(lines[:-1]))
    assert main(["report", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}/" in error
    assert "is not finished" in error
    for name in ("runs.jsonl", "a" * 300):  # where no folder can be made
        line = json.dumps({"run": name, "done": {}})
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("runs.jsonl", lines[0] + line)
        assert main(["report", str(file)]) == 2
        error = capsys.readouterr().err
        assert str(file) in error
        assert f"{tmp_path.parent.parent}" not in error.replace(str(tmp_path), "")
    assert main(["report", str(tmp_path / "nowhere.zip")]) == 2
    assert f"there is no {tmp_path / 'nowhere.zip'}" in " ".join(capsys.readouterr().err.split())


def test_an_archive_has_its_suffix_and_its_folder_is_free(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "packed.zip"
    pack(runs, file)
    plain = tmp_path / "packed-too"
    plain.write_bytes(file.read_bytes())
    assert main(["report", str(plain)]) == 2
    assert "ends in .zip" in capsys.readouterr().err
    file.with_suffix("").write_text("in the way")
    assert main(["report", str(file)]) == 2
    said = capsys.readouterr()
    assert "which is a file; rename the archive" in " ".join(said.err.split())
    assert said.out == ""


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
        archive.writestr("softmax-seed0/diagnosis/weights.npy", "")


def lines(*said: str) -> Callable[[Path], None]:
    """Another ``runs.jsonl`` and nothing else."""

    def damage(file: Path) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("runs.jsonl", "\n".join(said))

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "is damaged, or no archive of `resonant pack`"),
        (flip, "is damaged, or no archive of `resonant pack`"),
        (lambda file: file.write_text("runs"), "is damaged, or no archive of `resonant pack`"),
        (lambda file: file.write_bytes(b""), "is damaged, or no archive of `resonant pack`"),
        (bare, "holds no runs.jsonl"),
        (lambda file: rewritten(file, "../x.npy", ""), "holds '../x.npy'"),
        (lambda file: rewritten(file, "/tmp/x.npy", ""), "holds '/tmp/x.npy'"),
        (lambda file: rewritten(file, "a/../../x.npy", ""), "holds 'a/../../x.npy'"),
        (lambda file: rewritten(file, "a/b/c/d/x.npy", ""), "holds 'a/b/c/d/x.npy'"),
        (lambda file: rewritten(file, "a/b/run.py", ""), "holds 'a/b/run.py'"),
        (lambda file: rewritten(file, "a/b/x.npy", "", zipfile.ZIP_LZMA), "holds 'a/b/x.npy"),
        (lambda file: rewritten(file, "a/b/x.npy", ""), "a/b/x.npy, which is of none of its runs"),
        (lambda file: rewritten(file, "x.npy", ""), "x.npy, which is of none of its runs"),
        (
            lambda file: rewritten(file, "softmax-seed0/b/x.npy", "no array"),
            "is damaged, or no archive",
        ),
        (lines('{"run": "a"}', '{"run": "a"}'), "holds a twice"),
        (lines("{"), "is damaged, or no archive"),
        (lines("[]"), "is damaged, or no archive"),
        (lines('{"run": 3}'), "is damaged, or no archive"),
        (lines('{"run": "a", "metrics": [1]}'), "is damaged, or no archive"),
        (lines('{"run": "a", "metrics": {"x": [1], "y": []}}'), "is damaged, or no archive"),
        (lines('{"run": "../a", "done": {}}'), "holds '../a/of/it.npy'"),
        (lines('{"run": "/tmp/a", "done": {}}'), "holds '/tmp/a/of/it.npy'"),
        (lines('{"run": "", "done": {}}'), "holds '/of/it.npy'"),
        (lines('{"run": "a//b", "done": {}}'), "holds 'a//b/of/it.npy'"),
        (lines('{"run": "a/", "done": {}}'), "holds 'a//of/it.npy'"),
    ],
)
def test_a_strange_file_is_refused_in_words(
    runs: Path, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    file = tmp_path / "trial.zip"
    pack(runs, file)
    damage(file)
    with pytest.raises(UserError, match=says):
        unpack(file, tmp_path / "out" / "in")
    assert sorted(tmp_path.glob("**/*.npy")) == []
    assert {path.name for path in tmp_path.iterdir()} <= {"trial", "trial.zip", "out"}
    assert {path.name for path in (tmp_path / "out").glob("*")} <= {"in"}


def test_a_name_that_no_archive_may_hold_is_refused_before_it_is_written(
    runs: Path, tmp_path: Path
) -> None:
    write_arrays(runs / "softmax-seed0" / "a name.npz", {"x": np.zeros(1)})
    with pytest.raises(UserError, match=r"holds 'softmax-seed0/a name/x\.npy'"):
        pack(runs, tmp_path / "trial.zip")
    assert not (tmp_path / "trial.zip").exists()
