"""Symbols with durations, rendered to frames: alignment with a known answer, nothing to download.

A symbol lasts 3 to 9 frames, the same for each of its occurrences, longer or shorter by 30 % for
the symbol that follows (models must read context), and by a random factor that shows only in the
frames. Its frames go in a straight line from the symbol's first sound to its last, plus noise.
"""

from __future__ import annotations

import numpy as np
import torch

from .conditions import AS_TRAINED, Condition
from .config import RECIPE, SymbolsConfig
from .utterances import Utterances

SPLITS = {"train": 0, "valid": 1, "test": 2}
SHORTEST, LONGEST = 3.0, 9.0  # frames of a symbol at tempo 1
SLOWEST = 0.6  # the tempo at which a ramp begins; it ends as much above 1
SWING, SWINGS = 1.6, 2  # a rubato's greatest tempo, and how often it is there
CONTEXT = 1.3  # lengthening before a symbol of odd number, shortening before an even one


def utterances(
    config: SymbolsConfig,
    split: str,
    *,
    key: tuple[int, int],
    count: int,
    condition: Condition = AS_TRAINED,
) -> Utterances:
    """``count`` utterances that depend on the configuration, the split and ``key`` alone.

    The ``condition`` says their tempo, by which durations are divided, whether there are twice as
    many symbols as the configuration has at most, and what else is hard in them. Tempo and noise
    change neither symbols nor jitter.
    """
    base, sounds = _world(config)
    generator = np.random.default_rng([RECIPE, SPLITS[split], *key])
    low, high = config.shortest, config.longest
    if condition.long:
        low = high = 2 * config.longest
    lengths = generator.integers(low, high + 1, size=count)
    ids = generator.integers(0, config.vocabulary, size=(count, high))
    if condition.motif:
        ids = ids[:, np.arange(high) % condition.motif]
    jitter = np.exp(config.jitter * generator.standard_normal((count, high)))
    # Shortened, a symbol must still last a frame.
    tempo = _tempo(condition, lengths, high)
    expected = np.maximum(base[ids] * _context(ids, lengths) / tempo, 1.0)
    inside = np.arange(high) < lengths[:, None]
    ids, expected = np.where(inside, ids, 0), np.where(inside, expected, 0.0)
    lasting = np.where(inside, np.maximum(expected * jitter, 1.0), 0.0)
    ends = np.rint(lasting.cumsum(1)).astype(np.int64)
    durations = np.diff(ends, axis=1, prepend=0)
    frames = _render(sounds, ids, durations)
    noise = condition.noise * config.noise * generator.standard_normal(frames.shape)
    real = np.arange(frames.shape[1]) < durations.sum(1)[:, None]
    frames = (frames + noise) * real[:, :, None]
    return Utterances(
        torch.from_numpy(ids),
        torch.from_numpy(durations),
        torch.from_numpy(expected),
        torch.from_numpy(frames.astype(np.float32)),
    )


def _world(config: SymbolsConfig) -> tuple[np.ndarray, np.ndarray]:
    """Durations (symbol) in frames, and first and last sounds (symbol, 2, feature)."""
    generator = np.random.default_rng(RECIPE)
    base = np.exp(generator.uniform(np.log(SHORTEST), np.log(LONGEST), config.vocabulary))
    return base, generator.standard_normal((config.vocabulary, 2, config.features))


def _tempo(condition: Condition, lengths: np.ndarray, high: int) -> np.ndarray:
    """The tempo at each symbol (row, symbol)."""
    through = np.arange(high) / np.maximum(lengths[:, None] - 1, 1)
    bends = {
        "": np.ones_like(through),
        "ramp": SLOWEST ** (1.0 - 2.0 * through),
        "rubato": SWING ** np.sin(2 * np.pi * SWINGS * through),
    }
    return condition.tempo * bends[condition.bend]


def _context(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    following = np.roll(ids, -1, axis=1)
    factor = np.where(following % 2 == 1, CONTEXT, 1.0 / CONTEXT)
    last = np.arange(ids.shape[1]) == lengths[:, None] - 1
    return np.where(last, 1.0, factor)


def _render(sounds: np.ndarray, ids: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Frames (batch, frame, feature) without noise."""
    count, longest = len(ids), int(durations.sum(1).max())
    frames = np.zeros((count, longest, sounds.shape[2]))
    for row in range(count):
        which = np.repeat(np.arange(ids.shape[1]), durations[row])
        starts = durations[row].cumsum() - durations[row]
        through = (np.arange(len(which)) - starts[which] + 0.5) / durations[row][which]
        first, last = sounds[ids[row][which]].transpose(1, 0, 2)
        frames[row, : len(which)] = first + through[:, None] * (last - first)
    return frames
