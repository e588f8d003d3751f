"""What the folder of a run says of itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError
from ..training.configs import import_plugins


def described_run(directory: Path) -> dict[str, Any]:
    """The run's own configuration, where it lies beside the model."""
    path = directory / "config.yaml"
    return (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def refuse_no_text(directory: Path, ids: int, config: Any) -> None:
    """Raise ``UserError`` if a model of ``config`` was not trained on a text of ``ids``."""
    if config.architecture == "pixels":
        raise UserError(
            f"{directory} holds a model of pixels, which reads and writes no text; see what it "
            "draws with `resonant draw`, what it does with `resonant report` on the comparison's "
            "folder"
        )
    vocabulary = config.vocabulary
    if vocabulary < ids:
        raise UserError(
            f"{directory} holds a model of {vocabulary} made-up ids, which reads and writes no "
            "text; see what it does with `resonant report` on the comparison's folder"
        )


def import_plugins_of(directory: Path | None, given: str | None) -> None:
    """Import the modules that the run in ``directory`` names, and those ``given`` by comma.

    Raises ``UserError`` for one that cannot be imported.
    """
    sys.path.insert(0, os.getcwd())
    own = () if directory is None else described_run(directory).get("plugins") or ()
    import_plugins((*own, *(given.split(",") if given else ())))
