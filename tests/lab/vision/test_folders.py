"""A folder of one's own images: classes, splits and sizes read off it; people's files."""

import json
import os
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resonant import VisionTransformer, load_model
from resonant.cli.main import main
from resonant.errors import UserError
from resonant.lab.vision import images as images_module
from resonant.lab.vision.classifier import open_classifier
from resonant.lab.vision.config import ImagesConfig
from resonant.lab.vision.files import image_size, read_image
from resonant.lab.vision.folders import Folder, find_images, usual_side
from resonant.lab.vision.images import Held, Streamed, load_images
from tests.lab.running import resonant

CLASSES = ("ant", "bee", "cow")
TINY = [
    "--model.layers=1",
    "--model.width=16",
    "--model.heads=2",
    "--model.hidden=16",
    "--training.steps=30",
    "--training.evaluate_every=15",
    "--training.warmup=2",
    "--training.batch_size=16",
]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    load_images.cache_clear()
    return folder


def fill(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Images of three classes, of several shapes, formats and modes; each class has its shades."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            size = (40 + i, 50, 3) if i % 3 else (30, 36 + i)
            made = generator.integers(0, 80, size).astype(np.uint8) + np.uint8(80 * label)
            suffix = ("png", "JPEG", "webp", "bmp")[i % 4]
            Image.fromarray(made).save(folder / name / f"{i:02}.{suffix}")
    return folder


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return fill(tmp_path / "farm", 20)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    fill(tmp_path / "farm" / "train", 14)
    fill(tmp_path / "farm" / "val", 2, seed=1)
    return tmp_path / "farm"


def own(folder: Path, **options: Any) -> ImagesConfig:
    given: dict[str, Any] = {"size": 24} | options
    return ImagesConfig("images", path=str(folder), **given)


def sizes(folder: Folder) -> dict[str, int]:
    return {name: len(each) for name, each in folder.splits.items()}


def test_a_folder_of_classes_is_split_by_what_is_in_the_files(flat: Path) -> None:
    found = find_images(flat)
    assert found.classes == CLASSES
    assert sizes(found) == {"train": 48, "valid": 6, "test": 6}
    for each in found.splits.values():  # each class in each split, in its share
        assert {label for _, label in each} == {0, 1, 2}
        assert all(path.parent.name == CLASSES[label] for path, label in each)
    assert found.words == "split here: of each class one in 10 validates and one tests"
    renamed = flat.with_name("renamed")
    shutil.copytree(flat, renamed)
    for path in sorted(renamed.rglob("*.png")):
        path.rename(path.with_name(f"z{path.name}"))
    content = {p.read_bytes() for p, _ in find_images(renamed).splits["test"]}
    assert content == {p.read_bytes() for p, _ in found.splits["test"]}


def test_copies_are_in_one_split_alone(flat: Path) -> None:
    before = find_images(flat)
    for path, label in [each for part in before.splits.values() for each in part][::2]:
        shutil.copy(path, flat / CLASSES[label] / f"z-copy-{path.name}")
    (flat / "cow" / "notes.txt").write_text("no image")
    for hidden in (".thumbnails", "__MACOSX", ".ipynb_checkpoints"):
        (flat / "cow" / hidden).mkdir()
        Image.new("L", (9, 9)).save(flat / "cow" / hidden / "00.png")
    (flat / "cow" / "._00.png").write_bytes(b"of macOS")
    (flat / ".git").mkdir()
    (flat / "loose.png").write_bytes(b"")
    found = find_images(flat)
    assert sizes(found) == sizes(before)
    assert found.splits == before.splits
    assert found.words.endswith("left out: 30 copies, 2 other files or folders (.png, .txt)")
    assert "left out: 30 copies" in images_module.describe(load_images(own(flat)), own(flat))


def test_images_in_two_classes_are_in_none(flat: Path) -> None:
    """Whichever was right, a model that learns one is wrong by the other."""
    shutil.copy(flat / "ant" / "00.png", flat / "bee" / "other.png")
    shutil.copy(flat / "ant" / "01.JPEG", flat / "cow" / "other.jpg")
    found = find_images(flat)
    assert sum(sizes(found).values()) == 58
    assert found.words.endswith("left out: 4 in two classes")


def test_images_that_begin_alike_are_no_copies(tmp_path: Path) -> None:
    """The lower 90 rows are black, and come first in a BMP."""
    for label, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for i in range(6):
            made = np.zeros((256, 256, 3), dtype=np.uint8)
            made[:60] = 10 * i + 100 * label + 1
            Image.fromarray(made).save(tmp_path / name / f"{i}.bmp")
    assert sum(sizes(find_images(tmp_path)).values()) == 12


def test_what_is_tested_is_not_learned_in_a_split_of_one_s_own_either(split: Path) -> None:
    for path in sorted(split.glob("val/*/00.png")):
        shutil.copy(path, split / "train" / path.parent.name / "again.png")
    found = find_images(split)
    assert sizes(found) == {"train": 39, "valid": 3, "test": 6}
    assert found.words.endswith("left out: 3 copies")
    (split / "unlabelled").mkdir()
    (split / "readme.md").write_text("x")
    said = find_images(split).words
    assert said.endswith("left out: 3 copies, 2 other files or folders (.md, unlabelled/)")


def test_every_class_is_trained(tmp_path: Path) -> None:
    fill(tmp_path / "train", 14)
    fill(tmp_path / "val", 2, seed=1)
    for path in sorted((tmp_path / "train" / "ant").iterdir())[1:]:
        path.unlink()
    found = find_images(tmp_path)
    assert sorted({label for _, label in found.splits["train"]}) == [0, 1, 2]
    (last,) = (tmp_path / "train" / "ant").iterdir()
    shutil.copy(next((tmp_path / "val" / "ant").iterdir()), last)
    with pytest.raises(UserError, match=r"class 'ant' of .* has no image of its own to train"):
        find_images(tmp_path)


def test_a_class_may_be_called_train(flat: Path) -> None:
    (flat / "bee").rename(flat / "train")
    assert find_images(flat).classes == ("ant", "cow", "train")


def test_a_split_of_one_s_own_is_kept(split: Path) -> None:
    found = find_images(split)
    assert sizes(found) == {"train": 39, "valid": 3, "test": 6}
    assert found.words == "val/ tests, every 20th of a class in train/ validates"
    assert all("val" in path.parts for path, _ in found.splits["test"])
    fill(split / "test", 1, seed=2)
    found = find_images(split)
    assert sizes(found) == {"train": 42, "valid": 6, "test": 3}
    assert found.words == "its own split"
    shutil.rmtree(split / "val")
    assert find_images(split).words.startswith("test/ tests, every 20th")
    (split / "testing").mkdir()
    with pytest.raises(UserError, match="holds test and testing, which are one split"):
        find_images(split)
    (split / "testing").rmdir()
    shutil.rmtree(split / "test")
    (split / "train").rename(split / "Training")
    assert find_images(split).words.startswith("split here")


def test_few_are_held_and_kept_many_are_streamed(
    split: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = load_images(own(split))
    assert held.name == "farm"
    train = held.splits["train"]
    assert isinstance(train, Held)
    assert train.pixels.shape == (39, 3, 24, 24)
    assert len(list((cache / "resonant" / "images").glob("*.npy"))) == 1
    load_images.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("resonant.lab.vision.kept.read_image", None)  # would fail if called
        assert load_images(own(split)).digest == held.digest
    load_images.cache_clear()
    (kept,) = (cache / "resonant" / "images").glob("*.npy")
    whole = bytearray(kept.read_bytes())
    whole[len(whole) // 2] ^= 1
    kept.write_bytes(whole)
    assert load_images(own(split)).digest == held.digest  # read again
    load_images.cache_clear()
    monkeypatch.setattr(images_module, "HELD_BYTES", 0)
    streamed = load_images(own(split)).splits["train"]
    assert isinstance(streamed, Streamed)
    rows = [0, 20, 38]
    assert np.array_equal(streamed.take(rows), train.take(rows))
    assert streamed.take([38]).mean() > streamed.take([0]).mean() + 60
    load_images.cache_clear()
    assert load_images(own(split, pool=2)).splits["test"].take([1]).shape == (1, 3, 12, 12)


@pytest.mark.parametrize("held", [1 << 29, 0])
def test_another_image_gives_another_hash(
    split: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same size and time, too, held or streamed."""
    monkeypatch.setattr(images_module, "HELD_BYTES", held)
    before = load_images(own(split)).digest
    path = split / "train" / "ant" / "03.bmp"
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    load_images.cache_clear()
    assert load_images(own(split)).digest != before


def test_the_usual_side_is_a_multiple_of_eight(flat: Path, tmp_path: Path) -> None:
    assert usual_side(find_images(flat)) == 40  # shorter sides are 30 and 40 to 50
    for side, expected in ((5, 8), (31, 24), (700, 64)):
        for name in ("a", "b"):
            folder = tmp_path / str(side) / name
            folder.mkdir(parents=True)
            for i in range(3):
                made = np.full((side, side + i), 9 * i + 100 * (name == "b"), dtype=np.uint8)
                Image.fromarray(made).save(folder / f"{i}.png")
        assert usual_side(find_images(tmp_path / str(side))) == expected


def test_folders_that_are_none(split: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"there is no folder .*check --data.path: needed is DIR/CLAS"
    ):
        find_images(split / "none")
    empty = tmp_path / "empty"
    (empty / "ant").mkdir(parents=True)
    with pytest.raises(UserError, match=r"ant holds no images .* or remove the folder"):
        find_images(empty)
    shutil.copy(split / "val" / "ant" / "00.png", empty / "ant")
    with pytest.raises(UserError, match="holds 1 folders of images, and at least two classes"):
        find_images(empty)
    shutil.copytree(empty / "ant", empty / "bee")
    with pytest.raises(UserError, match=r"class 'ant' of .* has 0 different images of its own"):
        find_images(empty)
    with pytest.raises(UserError, match="holds 0 folders of images"):
        find_images(split / "val" / "ant")
    (split / "val" / "cow").rename(split / "val" / "dog")
    with pytest.raises(UserError, match=r"have other classes \(first: cow\)"):
        find_images(split)


def png16(color: int, width: int = 4, height: int = 4) -> bytes:
    """A PNG of 16 bits a channel; ``color`` 2 is RGB, 4 grey with alpha, 6 RGB with alpha."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    rows = (b"\0" + bytes(2 * channels * width)) * height
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("color", [0, 2, 4, 6])
@pytest.mark.parametrize("name", ["deep.png", "deep.jpg"])
def test_deep_images_are_refused_and_not_cut_off(tmp_path: Path, color: int, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(png16(color))
    for read in (image_size, lambda path: read_image(path, 4)):
        with pytest.raises(UserError, match=r"more than 8 bits a channel \(mode .*convert it to 8"):
            read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    """As their EXIF says: the corner that is up and left when looked at is red."""
    upright = Image.new("RGB", (8, 16), "white")
    upright.paste("red", (0, 0, 4, 4))
    turns = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }.get(orientation, [])
    stored = upright
    for turn in turns:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "phone.png"
    stored.save(path, exif=exif)
    assert image_size(path) == (8, 16)
    expected = tmp_path / "upright.png"
    upright.save(expected)
    assert np.array_equal(read_image(path, 8), read_image(expected, 8))


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (10, 201)])
def test_extreme_ratios_are_refused_before_they_take_memory(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = tmp_path / "strip.png"
    Image.new("L", size).save(path)
    with pytest.raises(UserError, match=f"is {size[0]} x {size[1]} pixels, more than 20 times"):
        read_image(path, 224)
    Image.new("L", (10, 200)).save(path)
    assert read_image(path, 8).shape == (3, 8, 8)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n/x 1 def\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    "content",
    [EPS, b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\nrubbish", b"GIF89a", b"II*\0", b"<svg/>"],
)
def test_files_that_are_no_images_of_known_formats(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", None)  # would fail if called
    path = tmp_path / "named.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"named\.png cannot be read .*one of BMP, JPEG, PNG, WEBP"):
        read_image(path, 8)


def test_a_cut_image_is_named(split: Path) -> None:
    path = split / "val" / "bee" / "01.JPEG"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"bee/01\.JPEG cannot be read as an image"):
        load_images(own(split))


def test_grey_and_colour(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(path)
    assert read_image(path, 8).mean((1, 2)).tolist() == [255, 0, 0]
    assert read_image(path, 8, 1).shape == (1, 8, 8)
    Image.new("P", (8, 8)).save(path)
    assert read_image(path, 8).shape == (3, 8, 8)


@pytest.mark.slow
def test_compare_report_predict_and_open_again(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command on a folder; its classes are in the page, the run and what is predicted."""
    out = tmp_path / "out"
    given = ["images", "--data.path", str(flat), *TINY, "--arms=softmax,krause-grid", "--seeds=2"]
    assert main(["compare", *given, f"--out={out}", "--workers=1"]) == 0
    said = capsys.readouterr().out
    assert "farm, 48 + 6 + 6 pictures, 40 x 40 x 3" in " ".join(said.split())
    assert "3 classes (ant, bee, cow)" in " ".join(said.split())
    page = (out / "report.html").read_text()
    assert "<title>images" in page
    assert "Accuracy by class, in % of its test pictures" in page
    assert "your folder of images" in page
    run = out / "softmax-seed0"
    done = json.loads((run / "done.json").read_text())
    assert list(done["by_class"]) == list(CLASSES)
    assert sum(of for _, of in done["by_class"].values()) == 6
    described = (run / "config.yaml").read_text()
    assert "  size: 40" in described
    assert "  patch: 5" in described
    assert "  classes: 3" in described
    model = load_model(run)
    assert isinstance(model, VisionTransformer)

    classifier = open_classifier(run)
    files = sorted(flat.glob("*/0[0-4].*"))
    found = classifier.predict(files)
    assert found.shape == (15, 3)
    assert found.sum(1) == pytest.approx(np.ones(15))
    right = np.array([CLASSES.index(file.parent.name) for file in files])
    assert (found.argmax(1) == right).mean() > 0.9
    pixels = torch.from_numpy(np.stack([read_image(file, 40) for file in files])).float() / 255
    with torch.no_grad():
        logits = model.eval()(classifier.inputs.standardized(pixels))
    assert found == pytest.approx(logits.softmax(-1).numpy(), abs=1e-5)

    assert main(["predict", str(run), str(files[0]), str(flat / "bee"), "--top=2"]) == 0
    said = capsys.readouterr().out
    assert "ant/00.png" in said
    assert said.count(" %") == 42
    (tmp_path / "x.png").write_text("no image")
    assert main(["predict", str(run), str(tmp_path / "x.png"), str(files[0])]) == 2
    said = capsys.readouterr()
    assert "ant/00.png" in said.out  # the others are predicted all the same
    assert "x.png cannot be read as an image" in said.err
    os.mkfifo(tmp_path / "fifo.png")
    for name in ("fifo.png", "none.png"):
        assert main(["predict", str(run), str(tmp_path / name)]) == 2
        assert f"there is no file {tmp_path / name}" in capsys.readouterr().err
    assert main(["predict", str(run), str(files[0]), "--top=0"]) == 2
    assert "--top must be at least 1" in capsys.readouterr().err
    assert main(["predict", str(tmp_path), str(files[0])]) == 2
    assert "holds no images.json; give the folder of a finished run that tells" in (
        capsys.readouterr().err
    )
    for changed, says in (
        ({"classes": ["a", "b"]}, r"does not fit the model beside it \(classes = 2\); delete the"),
        ({"classes": ["a", "a", "b"]}, "is damaged .*; delete the folder .* run the same comparis"),
        ({"mean": [1e300, 0.1, 0.1]}, "is damaged"),
        ({"side": 81, "pool": 2}, r"\(image_height = 40.5\)"),
        ({"mean": [0.5]}, r"\(channels = 0\)"),
        ({"deviation": [0.5, 0.0, 0.5]}, "is damaged"),
        ({"side": 48}, r"\(image_height = 48\)"),
    ):
        kept = json.loads((run / "images.json").read_text())
        other = tmp_path / "other"
        shutil.copytree(run, other, dirs_exist_ok=True)
        (other / "images.json").write_text(json.dumps(kept | changed))
        with pytest.raises(UserError, match=says):
            open_classifier(other)


@pytest.mark.slow
def test_what_cannot_be_trained_is_said_before_it_is(flat: Path, tmp_path: Path) -> None:
    """Never in the workers, and in one sentence."""
    out = f"--out={tmp_path / 'out'}"
    missing = resonant("compare", "images", out)
    assert missing.returncode == 2
    assert "there is no folder DIR; check --data.path" in missing.stderr
    (flat / "ant" / "03.bmp").write_bytes(b"BM")
    broken = resonant("compare", "images", f"--data.path={flat}", out)
    assert broken.returncode == 2
    assert "ant/03.bmp cannot be read as an image" in broken.stderr
    (flat / "ant" / "03.bmp").unlink()
    for given, says in (
        ("--model.classes=5", "classes = 3, the model of softmax not; pass --model.classes 3"),
        ("--data.pool=3", "data.pool must divide the 40 pixels on a side of images"),
        ("--data.name=digits", "belong together"),
    ):
        refused = resonant("compare", "images", f"--data.path={flat}", out, given)
        assert refused.returncode == 2, given
        assert says in " ".join(refused.stderr.split()), given
        assert "Traceback" not in refused.stderr
        assert not list((tmp_path / "out").glob("*/config.yaml"))
    pixels = resonant(
        *("compare", "mnist-pixels", "--data.name=images", f"--data.path={flat}"),
        *("--estimate=1", "--seeds=1", "--arms=softmax"),
    )
    assert pixels.returncode == 0, pixels.stderr
    for size in (7, 10, 30, 224):
        sized = resonant(
            *("compare", "images", f"--data.path={flat}", f"--data.size={size}"),
            *("--estimate=1", "--seeds=1", "--arms=softmax"),
        )
        assert sized.returncode == 0, sized.stderr
