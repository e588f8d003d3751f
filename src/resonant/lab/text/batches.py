"""Batches that depend on the seed and the step alone, so that any step can be resumed exactly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError


def training_batch(
    tokens: np.ndarray, *, seed: int, step: int, batch_size: int, context: int
) -> tuple[Tensor, Tensor]:
    """Inputs and next-token targets, each (batch, context), drawn uniformly from ``tokens``.

    The generator is keyed by (seed, step): every arm with one seed sees the same batches in the
    same order, and a resumed run goes on with the batch it would have seen.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, step]))
    starts = generator.integers(0, _room(tokens, context), size=batch_size)
    return _windows(tokens, starts, context)


def evaluation_windows(tokens: np.ndarray, *, count: int, context: int) -> tuple[Tensor, Tensor]:
    """At most ``count`` windows (window, context) evenly spread over ``tokens``, no two meeting."""
    room = _room(tokens, context)
    most = min(count, 1 + (room - 1) // context)
    starts = np.linspace(0, room - 1, most).astype(np.int64)
    return _windows(tokens, starts, context)


def _room(tokens: np.ndarray, context: int) -> int:
    room = len(tokens) - context
    if room < 1:
        raise UserError(
            f"a split of {len(tokens)} tokens is shorter than training.context + 1 = "
            f"{context + 1}; lower --training.context or use a longer text"
        )
    return room


def _windows(tokens: np.ndarray, starts: np.ndarray, context: int) -> tuple[Tensor, Tensor]:
    rows = tokens[starts[:, None] + np.arange(context + 1)]
    ids = torch.from_numpy(rows.astype(np.int64))
    return ids[:, :-1], ids[:, 1:]
