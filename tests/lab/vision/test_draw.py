"""`resonant draw`: a PNG of pictures, or a sentence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resonant import pixel_model, vision_transformer
from resonant.cli.main import main
from resonant.lab.vision.config import ImagesConfig
from resonant.lab.vision.images import load_images


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = pixel_model(rows=8, columns=8, layers=1, width=16, heads=2, hidden=16)
    model.save_pretrained(tmp_path / "run")
    described = "data: {name: digits, levels: 16}\n"
    (tmp_path / "run" / "config.yaml").write_text(described)
    return tmp_path / "run"


def test_pictures_are_drawn_and_repeat(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["draw", str(run), "--count", "3", "--out", str(tmp_path / name)]) == 0
    first = np.asarray(Image.open(tmp_path / "a"))
    assert first.shape == (140, 420)  # three of 10 x 10 with their lines, 14 times as large
    assert (first == np.asarray(Image.open(tmp_path / "b"))).all()


def test_completions_stand_below_their_pictures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.png"
    command = ["draw", str(run), "--complete", "2", "--rows", "5", "--out", str(out)]
    assert main(command) == 0
    assert "4 pictures" in capsys.readouterr().out
    sheet = np.asarray(Image.open(out))[7::14, 7::14]  # a number a pixel
    assert sheet.shape == (20, 20)
    test = load_images(ImagesConfig("digits")).splits["test"].take([0])[0, 0]
    shown = np.rint(test.astype(int) * 16 // 256 * 17)
    assert (sheet[1:9, 1:9] == shown).all()
    assert (sheet[11:16, 1:9] == shown[:5]).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--count", "0"], "--count must be at least 1"),
        (["--rows", "3"], "give --complete N too"),
        (["--complete", "2", "--rows", "9"], "rows to keep are 0 to 8"),
        (["--temperature", "-1"], "temperature must be at least 0"),
    ],
)
def test_what_cannot_be_drawn(
    run: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", str(run), *options]) == 2
    assert says in capsys.readouterr().err


def test_a_model_of_classes_draws_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vision_transformer("digits").save_pretrained(tmp_path)
    assert main(["draw", str(tmp_path)]) == 2
    assert "architecture 'vision', not 'pixels'" in capsys.readouterr().err


def test_folders_without_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", str(tmp_path)]) == 2
    assert "holds no model.safetensors" in capsys.readouterr().err
