"""`resonant draw RUN`: images from a trained model of pixels."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError, check_seed
from ...files import WEIGHTS, write_atomically
from ..kit.contents import described_run
from ..kit.folder import CONFIG, require

if TYPE_CHECKING:
    import numpy as np

    from ...models.pixels import PixelModel

LEAST_SIDE = 112  # pixels of an image in the file


def main(arguments: list[str]) -> int:
    """Write a PNG: a row of images drawn, or rows of images and their completions."""
    options = make_parser().parse_args(arguments)
    _check(options)
    import numpy as np
    import torch

    from ...models.pixels import PixelModel

    torch.set_num_threads(1)
    drawing = {"temperature": options.temperature, "seed": options.seed}
    try:
        model = PixelModel.from_pretrained(options.run)
        if options.complete is None:
            rows = [model.draw(options.count, **drawing)]
        else:
            shades = _shades(options, model)
            keep = model.config.rows // 2 if options.rows is None else options.rows
            rows = [shades]
            rows += [model.complete(shades, keep, **drawing)]
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
    scale = 255 / (model.config.vocabulary - 1)
    sheet = np.concatenate([_strip(np.rint(x.numpy() * scale).astype(np.uint8)) for x in rows])
    target = Path(options.out or "drawn.png")
    write_atomically(target, _png(sheet, model.config.rows), "drawing")
    print(f"{sum(len(x) for x in rows)} pictures: {target}")
    return 0


def _shades(options: argparse.Namespace, model: PixelModel) -> Any:
    """Test images of the run's own data, as shades."""
    import numpy as np
    import torch

    from ...models.fields import from_dict
    from .config import ImagesConfig
    from .images import load_images

    described = described_run(Path(options.run)).get("data")
    if not described:
        raise UserError(
            f"{options.run} holds no {CONFIG} that names its pictures; leave out --complete"
        )
    data = from_dict(ImagesConfig, described)
    data_dir = None if options.data_dir is None else Path(options.data_dir)
    test = load_images(data, data_dir).splits["test"]
    images = test.take(np.linspace(0, len(test) - 1, options.complete).astype(int))
    levels = images.astype(np.int64) * model.config.vocabulary // 256
    return torch.from_numpy(levels.transpose(0, 2, 3, 1).copy())


def _strip(images: np.ndarray) -> np.ndarray:
    """(image, row, column, channel) side by side, a dark line around each."""
    import numpy as np

    framed = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=64)
    return np.concatenate([*framed], axis=1)


def _png(sheet: np.ndarray, side: int) -> bytes:
    from PIL import Image

    image = Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)
    times = max(1, round(LEAST_SIDE / side))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _check(options: argparse.Namespace) -> None:
    move = (
        "give the folder of a finished run of pixels, such as runs/mnist-pixels/krause-window-seed0"
    )
    require(Path(options.run), WEIGHTS, move)
    check_seed(options.seed)
    for name in ("count", "complete"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1; it is {value}")
    if options.rows is not None and options.complete is None:
        raise UserError("--rows says how many rows of pictures are kept; give --complete N too")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of this command\'s options."""
    parser = argparse.ArgumentParser(
        prog="resonant draw", description="Pictures from the folder of a run of pixels, as a PNG."
    )
    parser.add_argument(
        "run", help="folder of a run, such as runs/mnist-pixels/krause-window-seed0"
    )
    parser.add_argument("--count", type=int, default=16, help="how many to draw (16)")
    parser.add_argument("--complete", type=int, metavar="N", help="go on from N test pictures")
    parser.add_argument("--rows", type=int, help="rows of them that are kept (half)")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 = the likeliest (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    parser.add_argument("--data-dir", help="folder to take data files from, with --complete")
    parser.add_argument("--out", help="the file (drawn.png)")
    return parser
