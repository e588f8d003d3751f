"""How well attention weights align two sequences, measured against the truth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..functional.clock import Clock
from ..functional.filter import FilteredClock
from ..nn import ClockAttention

FALL = 1e-4  # tokens; a mean position that falls by less is a rounding error
LOST = 2  # symbols; a frame that points farther from the true one has lost its place


@dataclass(frozen=True)
class AlignmentScores:
    """One number per utterance each, (batch,); boundaries lie between neighbouring symbols.

    ``boundary_error``: mean distance of a boundary from the truth, in frames, a boundary placed
    after as many frames as point at symbols before it; ``within`` share of boundaries at most
    ``tolerance`` frames off; ``duration_error`` mean error of durations, in frames; ``correct`` and
    ``near`` share of frames that point at the true symbol, or at it or a neighbour; ``focus`` mean
    largest weight of a frame; ``skips`` share of symbols that no frame points at; ``repeats`` times
    that symbols are left and entered again, per symbol; ``early_stop`` whether the last frame
    points at another symbol than the last; ``falls`` share of frames at which the mean position
    goes back; ``lost`` whether a frame points more than 2 symbols away from the true one,
    ``lost_at_end`` whether the last frame that has a true one does.
    """

    boundary_error: Tensor
    within: Tensor
    duration_error: Tensor
    correct: Tensor
    near: Tensor
    focus: Tensor
    skips: Tensor
    repeats: Tensor
    early_stop: Tensor
    falls: Tensor
    lost: Tensor
    lost_at_end: Tensor

    def means(self) -> dict[str, float]:
        """The mean of each over utterances."""
        return {f.name: getattr(self, f.name).double().mean().item() for f in fields(self)}


@torch.no_grad()
def measure_alignment(
    weights: Float[Tensor, "batch frame symbol"],
    durations: Int[Tensor, "batch symbol"],
    lengths: Int[Tensor, "batch"] | None = None,
    *,
    tolerance: float = 1.0,
    tempo: float = 1.0,
) -> AlignmentScores:
    """Scores of weights against true ``durations`` in frames, 0 where a symbol is padding.

    ``lengths`` are the frames that count (the durations' sum over ``tempo`` if left out); a frame
    points at the symbol of its largest weight. Where frames were made at ``tempo`` times the rate
    of ``durations``, each counts as ``tempo`` frames: errors and ``tolerance`` are in frames of
    ``durations``, and rounding alone makes errors of a fraction of a frame. ``lost`` looks at the
    frames that there are: an utterance that ends early has not lost its place.

    Raises ``ValueError`` for a tempo that is not above 0, and for more frames than have weights.
    """
    lengths = _lengths(weights, durations, lengths, tempo)
    frames = torch.arange(weights.shape[1], device=weights.device)
    real = frames < lengths.unsqueeze(1)
    frames = (frames + 0.5) * tempo  # their middles
    path = weights.argmax(-1).masked_fill(~real, -1)
    counts = durations.new_zeros(durations.shape[0], durations.shape[1])
    counts.scatter_add_(1, path.clamp(min=0), real.to(counts.dtype))
    counts = counts * tempo
    symbol = durations > 0
    symbols = symbol.sum(-1)
    index = torch.arange(durations.shape[1], device=weights.device)
    inner = symbol & (index < (symbols - 1).unsqueeze(1))
    ends, truth = counts.cumsum(1), durations.cumsum(1)
    off = (ends - truth).abs().double()
    true_path = (frames.unsqueeze(-1) >= truth.unsqueeze(1)).sum(-1)  # symbols ended before
    both = real & (frames < truth[:, -1:])
    away = (path - true_path).abs()
    entered = (path[:, 1:] != path[:, :-1]) & real[:, 1:]
    visits = torch.cat([real[:, :1], entered], dim=1).sum(1)
    seen = ((counts > 0) & symbol).sum(1)
    last = path.gather(1, (lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
    place = (weights * torch.arange(weights.shape[2], device=weights.device)).sum(-1)
    falls = (place.diff(dim=1) < -FALL) & real[:, 1:]
    lost = (away > LOST) & both
    at_end = (both.sum(1, keepdim=True) - 1).clamp(min=0)
    return AlignmentScores(
        boundary_error=_mean(off, inner),
        within=_mean((off <= tolerance).double(), inner),
        duration_error=_mean((counts - durations).abs().double(), symbol),
        correct=_mean((away == 0).double(), both),
        near=_mean((away <= 1).double(), both),
        focus=_mean(weights.amax(-1).double(), real),
        skips=1.0 - seen.double() / symbols,
        repeats=(visits - seen).double() / symbols,
        early_stop=(last != symbols - 1).double(),
        falls=_mean(falls.double(), real[:, 1:]),
        lost=lost.any(1).double(),
        lost_at_end=lost.gather(1, at_end).squeeze(1).double(),
    )


def _lengths(weights: Tensor, durations: Tensor, lengths: Tensor | None, tempo: float) -> Tensor:
    """How many frames of each row count."""
    if not 0.0 < tempo < math.inf:
        raise ValueError(f"tempo is a finite number above 0; it is {tempo}")
    lengths = (durations.sum(-1) / tempo).round().long() if lengths is None else lengths
    most = weights.shape[1]
    if lengths.numel() and int(lengths.max()) > most:
        raise ValueError(
            f"{int(lengths.max())} frames count, but only {most} have weights; give lengths"
        )
    return lengths


def along_path(
    path: Int[Tensor, "batch frame"], symbols: int
) -> Float[Tensor, "batch frame symbol"]:
    """A path as weights: 1 at the symbol of each frame, nothing where it is -1."""
    weights = torch.nn.functional.one_hot(path.clamp(min=0), symbols).float()
    return weights * (path >= 0).unsqueeze(-1)


@contextmanager
def record_clocks(module: nn.Module) -> Iterator[list[tuple[Clock | FilteredClock, Clock]]]:
    """Collect the target's and the source's clock of each call of ``module`` inside the block.

    Nothing is collected from what is no ``ClockAttention``.
    """
    found: list[tuple[Clock | FilteredClock, Clock]] = []
    if not isinstance(module, ClockAttention):
        yield found
        return
    before, module.watch = module.watch, lambda target, source: found.append((target, source))
    try:
        yield found
    finally:
        module.watch = before


def _mean(of: Tensor, where: Tensor) -> Tensor:
    """Mean over the last axis where ``where`` holds; 0 where it never does."""
    return (of * where).sum(-1) / where.sum(-1).clamp(min=1)
