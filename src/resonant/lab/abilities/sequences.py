"""Made-up sequences that ask for one ability each; nothing to download.

Ids run from 0, which is blank, to 95. A sequence depends on the configuration, the split and its
key alone; an id is scored where the sequence so far determines it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .config import RECIPE, AbilityConfig

Made = tuple[np.ndarray, np.ndarray, np.ndarray]  # tokens, answers, scored

VOCABULARY = 96
BLANK = 0
SPLITS = {"train": 0, "valid": 1, "test": 2}

KEYS = VALUES = 8  # recall: an id for each pair, each key and each value
STATES, JUMP = 8, 0.3  # induction: symbols of a walk, and how often it stops to start elsewhere
RING, CLUSTERS, SPREAD = 21, 3, 2  # clustering: points, groups, and how far from its middle one is


@dataclass(frozen=True)
class Sequences:
    """``inputs`` (batch, token); ``targets`` (batch, token), -1 where nothing is asked.

    ``scored`` (batch, token): whose answers count in the share of right ones.
    """

    inputs: Tensor
    targets: Tensor
    scored: Tensor


def sequences(
    config: AbilityConfig, split: str, *, key: tuple[int, int], count: int, times: int = 1
) -> Sequences:
    """``count`` sequences, ``times`` as long as ``config.length``."""
    make = {"recall": _recall, "induction": _induction, "copying": _copying}
    generator = np.random.default_rng([RECIPE, SPLITS[split], *key])
    made = make.get(config.name, _clustering)(generator, count, times * config.length)
    return Sequences(*(torch.from_numpy(each) for each in made))


def _recall(generator: np.random.Generator, count: int, length: int) -> Made:
    """A value is written under a key (one id says both), or a key is asked: which value is last?"""
    key = generator.integers(0, KEYS, (count, length))
    value = generator.integers(0, VALUES, (count, length))
    asks = generator.random((count, length)) < 0.5
    held = np.full((count, KEYS), -1)
    rows, answer = np.arange(count), np.zeros((count, length), dtype=np.int64)
    for place in range(length):
        write = ~asks[:, place]
        held[rows[write], key[write, place]] = value[write, place]
        answer[:, place] = held[rows, key[:, place]]
    asked = asks & (answer >= 0)
    pair, ask = 1 + key * VALUES + value, 1 + KEYS * VALUES + key
    answers = np.where(asked, 1 + KEYS * VALUES + KEYS + answer, -1)
    return np.where(asks, ask, pair), answers, asked


def _induction(generator: np.random.Generator, count: int, length: int) -> Made:
    """A walk in which each symbol has its successor; what followed this symbol before?

    A blank interrupts the walk, which goes on elsewhere.
    """
    states = _distinct(generator, np.arange(1, VOCABULARY), count, STATES)
    successor = _distinct(generator, np.arange(STATES), count, STATES)
    rows = np.arange(count)
    at = generator.integers(0, STATES, count)
    jumped = np.ones(count, dtype=bool)  # whether the walk starts here
    known = np.zeros((count, STATES), dtype=bool)  # whose successor was seen
    tokens, asked = np.full((count, length + 1), BLANK), np.zeros((count, length + 1), dtype=bool)
    for place in range(length + 1):
        jump = (generator.random(count) < JUMP) & ~jumped
        start, after = generator.integers(0, STATES, count), successor[rows, at]
        asked[:, place] = ~jump & ~jumped & known[rows, at]
        known[rows, at] |= ~jump & ~jumped
        at = np.where(jumped, start, np.where(jump, at, after))
        tokens[:, place] = np.where(jump, BLANK, states[rows, at])
        jumped = jump
    return _next(tokens, asked)


def _copying(generator: np.random.Generator, count: int, length: int) -> Made:
    """Symbols, as many as it pleases, a blank, then the same symbols again."""
    most = length // 2
    sizes = generator.integers(max(1, most // 4), most + 1, size=(count, 1))
    symbols = generator.integers(1, VOCABULARY, (count, most))
    place = np.arange(length + 1)[None]
    second = place - sizes - 1
    asked = (second >= 0) & (second < sizes)
    first = np.take_along_axis(symbols, np.minimum(place, most - 1).repeat(count, 0), axis=1)
    again = np.take_along_axis(symbols, second.clip(0, most - 1), axis=1)
    return _next(np.where(place < sizes, first, np.where(asked, again, BLANK)), asked)


def _next(tokens: np.ndarray, asked: np.ndarray) -> Made:
    """Sequences whose next token is asked, wherever ``asked`` says so of a token."""
    answers = np.where(asked[:, 1:], tokens[:, 1:], -1)
    return tokens[:, :-1].copy(), answers, asked[:, 1:].copy()


def _clustering(generator: np.random.Generator, count: int, length: int) -> Made:
    """Points of a ring with the labels of their groups, or points alone: which label has this?

    Groups and labels are drawn anew for each sequence, and which points of a group are shown;
    points that were shown are asked, to learn from, but not scored.
    """
    labels = _distinct(generator, np.arange(CLUSTERS), count, CLUSTERS)
    turn = generator.integers(0, RING, (count, 1))
    group = generator.integers(0, CLUSTERS, (count, length))
    asks = generator.random((count, length)) < 0.5
    # Of the points of each group, in an order of its own, half are shown.
    size = 2 * SPREAD + 1
    orders = generator.permuted(np.tile(np.arange(size), (count, CLUSTERS, 1)), axis=2)
    drawn = generator.integers(0, np.where(asks, size, (size + 1) // 2))
    rows = np.arange(count)[:, None]
    away = orders[rows, group, drawn]
    point = (turn + group * (RING // CLUSTERS) + away) % RING
    label = labels[rows, group]
    before = np.tri(length, k=-1, dtype=bool) & ~asks[:, None]
    same_group = ((group[:, :, None] == group[:, None]) & before).any(-1)
    same_point = ((point[:, :, None] == point[:, None]) & before).any(-1)
    asked = asks & same_group
    shown, ask = 1 + point * CLUSTERS + label, 1 + RING * CLUSTERS + point
    answers = np.where(asked, 1 + RING * CLUSTERS + RING + label, -1)
    return np.where(asks, ask, shown), answers, asked & ~same_point


def _distinct(
    generator: np.random.Generator, of: np.ndarray, count: int, number: int
) -> np.ndarray:
    """(count, number): different members of ``of`` in each row."""
    return generator.permuted(np.tile(of, (count, 1)), axis=1)[:, :number]
