"""Probes: every answer follows from the sequence so far, by an oracle of a few lines."""

import numpy as np
import pytest
import torch

from resonant.lab.abilities.config import ABILITIES, AbilityConfig
from resonant.lab.abilities.sequences import CLUSTERS, KEYS, RING, VALUES, VOCABULARY, sequences

COUNT = 40


def recall(tokens: list[int]) -> list[int]:
    """What was written last under the key that is asked."""
    held, answers = {}, []
    for token in tokens:
        number = token - 1
        if number < KEYS * VALUES:
            held[number // VALUES] = number % VALUES
            answers.append(-1)
        else:
            value = held.get(number - KEYS * VALUES)
            answers.append(-1 if value is None else 1 + KEYS * VALUES + KEYS + value)
    return answers


def induction(tokens: list[int]) -> list[int]:
    """What followed this symbol before, if anything but a blank."""
    answers, after = [], {}
    for previous, token in zip([0, *tokens[:-1]], tokens, strict=True):
        if previous and token:
            assert after.setdefault(previous, token) == token
        answers.append(after.get(token, -1))
    return answers


def copying(tokens: list[int]) -> list[int]:
    """From the first blank on, the symbols before it."""
    size = tokens.index(0)
    return [-1] * size + tokens[:size] + [-1] * (len(tokens) - 2 * size)


def clustering(tokens: list[int]) -> list[int]:
    """The label of the nearest point shown so far (a tie, or nothing near: not asked here)."""
    shown, answers = [], []
    for token in tokens:
        number = token - 1
        if number < RING * CLUSTERS:
            shown.append((number // CLUSTERS, number % CLUSTERS))
            answers.append(-1)
            continue
        point = number - RING * CLUSTERS
        near = sorted((min((p - point) % RING, (point - p) % RING), label) for p, label in shown)
        answers.append(1 + RING * CLUSTERS + RING + near[0][1] if near else -1)
    return answers


ORACLES = {
    "recall": recall,
    "induction": induction,
    "copying": copying,
    "clustering": clustering,
}


@pytest.mark.parametrize("ability", ABILITIES)
@pytest.mark.parametrize("times", [1, 2])
def test_answers_follow_from_what_came_before(ability: str, times: int) -> None:
    batch = sequences(AbilityConfig(ability, 32), "test", key=(0, 0), count=COUNT, times=times)
    assert batch.inputs.shape == batch.targets.shape == (COUNT, 32 * times)
    right = asked = 0
    for row, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        for mine, answer in zip(ORACLES[ability](row), targets, strict=True):
            asked += answer >= 0
            right += answer >= 0 and mine == answer
    assert asked > COUNT * 5
    # The nearest point shown is of another group now and then.
    assert right / asked == 1.0 if ability != "clustering" else right / asked > 0.93


@pytest.mark.parametrize("ability", ABILITIES)
def test_a_batch_depends_on_its_key_alone(ability: str) -> None:
    def inputs(split: str, *key: int) -> torch.Tensor:
        return sequences(AbilityConfig(ability), split, key=(key[0], key[1]), count=8).inputs

    assert inputs("train", 1, 2).equal(inputs("train", 1, 2))
    for other in (("train", 1, 3), ("train", 2, 2), ("valid", 1, 2), ("test", 1, 2)):
        assert not inputs("train", 1, 2).equal(inputs(*other))


@pytest.mark.parametrize("ability", ABILITIES)
def test_what_is_scored_is_asked_and_in_the_vocabulary(ability: str) -> None:
    batch = sequences(AbilityConfig(ability), "train", key=(0, 0), count=COUNT)
    assert batch.scored.any()
    assert (batch.targets[batch.scored] >= 0).all()
    assert batch.inputs.min() >= 0
    assert max(batch.inputs.max(), batch.targets.max()) < VOCABULARY


def test_only_new_points_are_scored() -> None:
    batch = sequences(AbilityConfig("clustering"), "train", key=(0, 0), count=COUNT)
    for row, scored in zip(batch.inputs.numpy(), batch.scored.numpy(), strict=True):
        for place in np.flatnonzero(scored):
            point = row[place] - 1 - RING * CLUSTERS
            shown = {(token - 1) // CLUSTERS for token in row[:place]}
            assert point not in shown


def test_what_is_no_probe_is_refused() -> None:
    with pytest.raises(ValueError, match=r"recall, induction, copying, clustering, not 'recal'"):
        AbilityConfig("recal")
    with pytest.raises(ValueError, match="at least 16; it is 3"):
        AbilityConfig(length=3)
    assert AbilityConfig().digest() != AbilityConfig("copying").digest()
    assert "64 tokens" in AbilityConfig().describe()
