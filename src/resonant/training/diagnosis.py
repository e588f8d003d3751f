"""What a finished run keeps of its model at work, for the report (diagnosis.npz)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from ..diagnostics import summarize
from ..files import write_atomically

LOOKED_AT = 8  # windows


def keep_diagnosis(model: nn.Module, inputs: Tensor, texts: Sequence[str], directory: Path) -> None:
    """Write ``diagnosis.npz``: ``diagnostics.summarize`` of ``inputs``, whose first row reads
    ``texts``, token by token.
    """
    write_diagnosis(summarize(model, inputs), texts, directory)


def write_diagnosis(found: dict[str, np.ndarray], texts: Sequence[str], directory: Path) -> None:
    """Write ``diagnosis.npz``: a summary whose first row reads ``texts``."""
    shown = found["weights"].shape[-1]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, tokens=np.array(texts[:shown]), **found)  # type: ignore[arg-type]
    write_atomically(directory / "diagnosis.npz", buffer.getvalue(), "diagnosis")
