"""What reports show of images."""

from __future__ import annotations

from pathlib import Path

from ..kit.domain import Figure, Section
from ..kit.results import Results
from .figures import completed, drawn, kept_images, looks
from .tables import image_tables


def _images(results: Results, directory: Path) -> list[Figure]:
    kept = kept_images(results, directory)
    return [
        Figure(
            "completed",
            completed(kept),
            "Images of the validation split, what is kept of them, and what the first seed of each "
            "arm draws below, pixel by pixel.",
        ),
        Figure(
            "drawn",
            drawn(kept),
            "Images that the first seed of each arm draws from nothing, temperature 1, none "
            "chosen.",
        ),
        Figure(
            "looks",
            looks(kept),
            "Where the class token looks: images of the validation split under its weights, in the "
            "last layer of the first seed, mean over heads. It sees every patch; bright is much.",
        ),
    ]


SECTIONS = (Section("Images", tables=image_tables, figures=_images, first=True),)
