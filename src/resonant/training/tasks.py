"""Which kind of problem a configuration is."""

from __future__ import annotations

from pathlib import Path

from ..data.configs import ProbeConfig, SymbolsConfig
from ..errors import UserError
from ..models.frame_configs import FrameTransformerConfig
from .configs import RunConfig
from .frames import FrameTask
from .language import LanguageTask
from .probes import ProbeTask
from .task import Task


def build_task(config: RunConfig, data_dir: Path | None, device: str = "cpu") -> Task:
    """The model of ``config`` with its data, on ``device``.

    Raises ``UserError`` for a model that is not for these data.
    """
    made_up = isinstance(config.data, SymbolsConfig)
    if made_up != isinstance(config.model, FrameTransformerConfig):
        raise UserError(
            f"a model of architecture {config.model.architecture} cannot be trained on "
            f"{config.data.name!r}"
        )
    if isinstance(config.data, ProbeConfig):
        return ProbeTask(config, device)
    return FrameTask(config) if made_up else LanguageTask(config, data_dir, device)
