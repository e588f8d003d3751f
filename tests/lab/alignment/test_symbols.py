"""Made-up utterances: the truth they carry is the truth, and everything repeats itself."""

import numpy as np
import pytest
import torch

from resonant.lab.alignment.conditions import HARD, Condition
from resonant.lab.alignment.config import SymbolsConfig
from resonant.lab.alignment.symbols import utterances
from resonant.lab.alignment.utterances import Utterances

PLAIN = SymbolsConfig(jitter=0.0, noise=0.0)


def test_frames_say_which_symbol_they_are() -> None:
    """Without noise the frames of a symbol lie on one line, and no two symbols share theirs."""
    batch = utterances(PLAIN, "train", key=(0, 0), count=8)
    for row in range(8):
        starts = [0, *batch.durations[row].cumsum(0).tolist()]
        for s in range(int((~batch.symbol_padding[row]).sum())):
            part = batch.frames[row, starts[s] : starts[s + 1]].double()
            assert torch.linalg.matrix_rank(part - part[0], rtol=1e-4) <= 1
    first = {}
    for row in range(8):
        starts = [0, *batch.durations[row].cumsum(0).tolist()]
        for s, symbol in enumerate(batch.symbols[row][~batch.symbol_padding[row]].tolist()):
            frame = batch.frames[row, starts[s]]
            if symbol in first:
                assert (frame - first[symbol]).norm() < 2.5
            first.setdefault(symbol, frame)
    frames = torch.stack(list(first.values()))
    assert torch.cdist(frames, frames).fill_diagonal_(9).min() > 2.5


def test_durations_depend_on_the_symbol_and_the_next_one() -> None:
    batch = utterances(PLAIN, "train", key=(0, 0), count=64)
    seen: dict[tuple[int, int], set[float]] = {}
    for row in range(64):
        symbols = batch.symbols[row][~batch.symbol_padding[row]].tolist()
        expected = batch.expected[row].tolist()
        for s in range(len(symbols) - 1):
            seen.setdefault((symbols[s], symbols[s + 1] % 2), set()).add(round(expected[s], 6))
    assert all(len(values) == 1 for values in seen.values())
    ratios = [max(seen[s, 1]) / max(seen[s, 0]) for s in range(20)]
    assert np.allclose(ratios, 1.3**2)
    assert (batch.durations - batch.expected).abs().max() <= 1.0  # rounding alone


def test_tempo_stretches_and_changes_nothing_else() -> None:
    config = SymbolsConfig(noise=0.0)
    plain, slow, fast = (
        utterances(config, "test", key=(0, 3), count=16, condition=Condition("", t))
        for t in (1.0, 0.6, 1.6)
    )
    for other, tempo in ((slow, 0.6), (fast, 1.6)):
        assert torch.equal(other.symbols, plain.symbols)
        ratio = other.durations.sum(1) / plain.durations.sum(1)
        assert (ratio * tempo - 1).abs().max() < 0.02
        assert (other.durations[~other.symbol_padding] >= 1).all()
    assert torch.equal(slow.symbol_padding, plain.symbol_padding)


def test_padding_is_where_the_lengths_say() -> None:
    batch = utterances(SymbolsConfig(), "train", key=(5, 7), count=16)
    lengths = (~batch.symbol_padding).sum(1)
    assert lengths.min() >= 12
    assert lengths.max() <= 24
    assert (batch.frames[batch.frame_padding] == 0).all()
    assert torch.equal((~batch.frame_padding).sum(1), batch.durations.sum(1))
    long = utterances(
        SymbolsConfig(), "test", key=(0, 0), count=4, condition=Condition("", long=True)
    )
    assert (~long.symbol_padding).sum(1).tolist() == [48] * 4


def test_an_utterance_depends_on_its_key_alone() -> None:
    config = SymbolsConfig()
    one, again = (utterances(config, "train", key=(1, 2), count=4) for _ in range(2))
    assert torch.equal(one.frames, again.frames)
    for key, split in (((1, 3), "train"), ((2, 2), "train"), ((1, 2), "valid")):
        other = utterances(config, split, key=key, count=4)
        assert not torch.equal(other.symbols, one.symbols)


def test_the_digest_is_that_of_the_recipe() -> None:
    assert SymbolsConfig().digest() == SymbolsConfig().digest()
    assert SymbolsConfig().digest() != SymbolsConfig(jitter=0.2).digest()
    assert "12 to 24 of 20 symbols" in SymbolsConfig().describe()


@pytest.mark.parametrize("vocabulary", [1, 2])
def test_few_symbols_are_enough(vocabulary: int) -> None:
    config = SymbolsConfig(vocabulary=vocabulary, shortest=1, longest=1)
    batch = utterances(config, "train", key=(0, 0), count=3, condition=Condition("", 1.6))
    assert batch.durations.min() >= 1


def test_hard_conditions_are_what_they_say() -> None:
    config = SymbolsConfig(jitter=0.0)

    def drawn(name: str) -> Utterances:
        condition = next(each for each in HARD if each.name == name)
        return utterances(config, "test", key=(0, 0), count=4, condition=condition)

    plain = utterances(config, "test", key=(0, 0), count=4)
    for name, factor in (("0.4", 0.4), ("2.5", 2.5)):
        share = plain.expected.sum() / drawn(name).expected.sum()
        assert abs(float(share) - factor) < 0.1 * factor
    for name in ("ramp", "rubato"):
        bent = drawn(name)
        assert torch.equal(bent.symbols, plain.symbols)
        length = int((plain.durations[0] > 0).sum())
        tempo = (plain.expected[0] / bent.expected[0])[:length]
        if name == "ramp":
            assert (tempo.diff() > 0).all()
            assert tempo[0] == pytest.approx(0.6)
            assert tempo[-1] == pytest.approx(1 / 0.6)
        else:
            turns = (tempo.diff().sign().diff() != 0).sum()
            assert 3 <= int(turns) <= 4
            assert 1.3 < float(tempo.max()) <= 1.6
    repeated = drawn("repeated").symbols[0]
    assert torch.equal(repeated[:3], repeated[3:6])
    noisy = drawn("noisy")
    ratio = (noisy.frames - plain.frames)[~plain.frame_padding].std() / 0.4
    assert abs(float(ratio) - 1) < 0.1
