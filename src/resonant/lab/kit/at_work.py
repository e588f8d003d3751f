"""What a finished run keeps of its model at work, for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from ...diagnostics import summarize
from .folder import DIAGNOSIS

LOOKED_AT = 8  # windows


def at_work(model: nn.Module, inputs: Tensor, texts: Sequence[str]) -> dict[str, dict]:
    """Arrays of ``Outcome``: ``diagnostics.summarize`` of ``inputs``, whose first row reads
    ``texts``, token by token.
    """
    return with_texts(summarize(model, inputs), texts)


def with_texts(found: dict[str, np.ndarray], texts: Sequence[str]) -> dict[str, dict]:
    """Arrays of ``Outcome``: a summary whose first row reads ``texts``."""
    shown = found["weights"].shape[-1]
    return {DIAGNOSIS: {"tokens": np.array(texts[:shown]), **found}}
