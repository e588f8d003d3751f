"""Speech as batches: frames tiled by phonemes, the same phrases at every tempo, kept and found."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resonant.errors import UserError
from resonant.lab.domains import describe as describe_data
from resonant.lab.speech import corpus as speech
from resonant.lab.speech.config import SpeechConfig
from resonant.lab.speech.corpus import (
    SpeechCorpus,
    frame_durations,
    load_speech,
    phoneme_ids,
)
from resonant.lab.speech.espeak import PAUSE
from resonant.lab.speech.kept import kept
from resonant.lab.speech.phrases import clauses_of, phrases

from .speaking import corpus, speech_cache, spoken_text, tiny_config
from .test_recordings import write_clips

__all__ = ["corpus", "speech_cache", "spoken_text"]


@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=30),
    hop=st.sampled_from([128, 256, 512]),
)
@settings(max_examples=200, deadline=None)
def test_durations_tile_the_frames(lengths: list[int], hop: int) -> None:
    ends = np.cumsum(lengths)
    frames = max(1, round(ends[-1] / hop))
    found = frame_durations(ends, frames, hop)
    if len(lengths) > frames:
        assert found is None
        return
    assert found is not None
    assert found.sum() == frames
    assert (found >= 1).all()
    rounded = np.rint(ends / hop)
    if (np.diff(rounded[:-1], prepend=0) >= 1).all() and (rounded[:-1] < frames).all():
        assert np.array_equal(found.cumsum()[:-1], rounded[:-1])  # nothing to move


def test_short_phonemes_get_a_frame_and_move_no_more_than_they_must() -> None:
    ends = np.array([500, 520, 540, 2048])
    assert frame_durations(ends, 4, 512) is not None
    assert frame_durations(ends, 4, 512).tolist() == [1, 1, 1, 1]  # type: ignore[union-attr]
    late = np.array([1500, 2000, 2048])
    assert frame_durations(late, 4, 512).tolist() == [2, 1, 1]  # type: ignore[union-attr]
    assert frame_durations(np.arange(1, 6) * 100, 4, 512) is None


@pytest.mark.slow
def test_the_same_phrases_at_every_tempo(corpus: SpeechCorpus) -> None:
    names = [f"test@{tempo:g}" for tempo in speech.TEMPI]
    texts = [[each.text for each in corpus.sets[name]] for name in names]
    assert all(each == texts[0] for each in texts)
    assert len(texts[0]) == 6
    frames = [np.mean([len(each.mel) for each in corpus.sets[name]]) for name in names]
    assert frames == sorted(frames, reverse=True)
    assert 1.4 < frames[0] / frames[2] < 1.8
    assert 0.55 < frames[4] / frames[2] < 0.75
    for quick, slow in zip(corpus.sets["test@1.6"], corpus.sets["test@0.6"], strict=True):
        # Slow speech may pause where fast speech does not.
        spoken = [[p for p in each.phonemes if p != PAUSE] for each in (quick, slow)]
        assert spoken[0] == spoken[1]
        assert quick.voice == slow.voice


def test_long_utterances_are_twice_as_long(corpus: SpeechCorpus) -> None:
    long, short = (
        np.mean([len(each.phonemes) for each in corpus.sets[name]])
        for name in ("test@long", "test@1")
    )
    assert 1.4 < long / short < 2.6


def test_splits_share_no_phrase_and_respect_the_limit(corpus: SpeechCorpus) -> None:
    texts = {n: {e.text for e in corpus.sets[n]} for n in ("train", "valid", "test@1")}
    assert len(texts["train"]) == 24
    assert not texts["train"] & texts["valid"]
    assert not texts["train"] & texts["test@1"]
    longest = corpus.config.longest * 22_050 / corpus.config.hop
    assert all(len(e.mel) <= longest for n in texts for e in corpus.sets[n])
    assert {each.voice for each in corpus.sets["train"]} == {0, 1, 2}


def test_batches_are_normalized_padded_and_tiled(corpus: SpeechCorpus) -> None:
    batch = corpus.batch("train", range(24))
    real = batch.frames[~batch.frame_padding]
    assert real.mean(0).abs().max() < 1e-4
    assert (real.std(0) - 1).abs().max() < 0.01
    assert (batch.frames[batch.frame_padding] == 0).all()
    assert batch.voices is not None
    for row, each in enumerate(corpus.sets["train"]):
        assert int(batch.durations[row].sum()) == len(each.mel)
        assert int((~batch.symbol_padding[row]).sum()) == len(each.phonemes)
        names = [corpus.symbols[i - 1] for i in batch.symbols[row][~batch.symbol_padding[row]]]
        assert tuple(names) == each.phonemes
        back = corpus.denormalized(batch.frames[row, : len(each.mel)].numpy())
        assert np.allclose(back, each.mel, atol=1e-4)
    assert torch.equal(batch.expected > 0, ~batch.symbol_padding)


def test_usual_durations_are_means(corpus: SpeechCorpus) -> None:
    lasting = [
        int(length)
        for each in corpus.sets["train"]
        for phoneme, length in zip(each.phonemes, each.durations, strict=True)
        if phoneme == "d"
    ]
    assert lasting
    assert np.isclose(corpus.usual[1 + corpus.symbols.index("d")], np.mean(lasting))


def test_unknown_phonemes_are_tried_without_their_stress() -> None:
    symbols = ("a", "ˈb", "c")
    assert phoneme_ids(("a", "ˈb", "ˌc", "b", "q"), symbols).tolist() == [1, 2, 3, 0, 0]


def test_what_was_spoken_is_kept(
    corpus: SpeechCorpus, monkeypatch: pytest.MonkeyPatch, speech_cache: Path
) -> None:
    monkeypatch.setattr(speech, "speak_all", None)  # would fail if called
    load_speech.cache_clear()
    again = load_speech(corpus.config, None)
    assert again.digest == corpus.digest
    assert again.symbols == corpus.symbols
    first, second = (each.batch("test@long", [0, 1]) for each in (again, corpus))
    assert torch.equal(first.frames, second.frames)
    assert describe_data(corpus.config, None).digest == corpus.digest
    said = describe_data(corpus.config, None).words
    assert "eSpeak NG 1." in said
    assert "24 utterances" in said
    assert corpus.digest[:12] in said


def test_a_damaged_cache_is_made_again(
    corpus: SpeechCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "resonant" / "speech"
    copy.mkdir(parents=True)
    whole = bytearray(corpus.path.read_bytes())
    whole[len(whole) // 2] ^= 1
    (copy / corpus.path.name).write_bytes(whole)
    assert kept(copy / corpus.path.name) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_speech.cache_clear()
    again = load_speech(corpus.config, None)
    assert again.digest == corpus.digest


def test_speaking_again_gives_the_same(
    corpus: SpeechCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_speech.cache_clear()
    small = dataclasses.replace(corpus.config, utterances=6, held_out=2)
    again = load_speech(small, None)
    for name in ("train", "valid"):
        for ours, theirs in zip(again.sets[name], corpus.sets[name], strict=False):
            assert ours.text == theirs.text
    assert again.digest != corpus.digest


def test_phrases_are_short_clauses(spoken_text: Path) -> None:
    found = phrases(tiny_config(spoken_text), None)
    assert set(found) == {"train", "valid", "test"}
    assert all(2 <= len(each.split()) <= 5 for split in found.values() for each in split)
    assert found == phrases(tiny_config(spoken_text), None)
    with pytest.raises(UserError, match=r"fewer than 50000 .a phrase: .* use a longer text"):
        phrases(tiny_config(spoken_text, utterances=50_000), None)


def test_phrases_of_other_languages(tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    phrase = (
        "der \N{LATIN SMALL LETTER A WITH DIAERESIS}ltere B\N{LATIN SMALL LETTER A WITH DIAERESIS}r"
    )
    path.write_text(
        f"{phrase}, it\N{RIGHT SINGLE QUOTATION MARK}s mine, NO SHOUTING, 3 bears.\n" * 800
    )
    config = tiny_config(path, utterances=1, held_out=1)
    with pytest.raises(UserError, match="has 0 phrases for the train split, fewer than 1 "):
        phrases(config, None)
    clauses = clauses_of(path.read_text(), config)
    assert set(clauses) == {phrase.lower(), "it's mine"}


def test_too_few_that_are_short_enough(spoken_text: Path, speech_cache: Path) -> None:
    config = tiny_config(spoken_text, utterances=4, held_out=1, longest=0.5, rates=(134,))
    with pytest.raises(
        UserError, match=r"at most 0\.5 s for .* raise --data\.longest or --data\.rates"
    ):
        load_speech(config, None)


def test_comments_of_the_standard_library() -> None:
    found = phrases(SpeechConfig(text="stdlib", utterances=100, held_out=10), None)
    assert len(found["train"]) > 3000


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": "festival"}, "data.name is one of espeak, ljspeech, ljspeech-sample, rec"),
        ({"text": "enwik8"}, "data.text is one of shakespeare, stdlib, file"),
        ({"real": "yes"}, "data.real is one of none, ljspeech, ljspeech-sample"),
        ({"hop": 2048}, "data.hop must be at most the window"),
        ({"hop": 10}, "data.hop must be at least 64; it is 10"),
        ({"longest": 0.1}, "data.longest is 0.5 to 20 seconds; it is 0.1"),
        ({"rates": (90,)}, "data.rates are 134 to 280 words per minute"),
        ({"voices": ()}, "must name at least one each"),
        ({"path": "x.txt"}, "data.text file and data.path belong together"),
        ({"text": "file"}, "data.text file and data.path belong together"),
    ],
)
def test_configurations_that_cannot_be(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SpeechConfig(**wrong)  # type: ignore[arg-type]


def test_unknown_voices_are_refused_before_anything_is_spoken(
    spoken_text: Path, speech_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "speak_all", None)
    config = tiny_config(spoken_text, voices=("en-us", "en-uz"))
    with pytest.raises(UserError, match="no voice 'en-uz'"):
        load_speech(config, None)


@pytest.mark.slow
def test_models_learn_from_recordings_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoken_text: Path, speech_cache: Path
) -> None:
    """16 clips of your own: split by clip, no other tempi; and as a test of a synthetic voice."""
    write_clips(tmp_path, 16)
    own = SpeechConfig(name="recordings", utterances=50, held_out=3)
    found = load_speech(own, tmp_path)
    assert {name: len(each) for name, each in found.sets.items()} == {
        "train": 24,
        "valid": 3,
        "test@1": 3,
        "test@long": 0,
    }
    said = speech.describe(found)
    assert "recordings: 24 utterances" in said
    assert said.endswith(
        "left out of recordings: 16 words alone between pauses, "
        "16 words that the aligner did not know"
    )
    (tmp_path / "wavs" / "00.wav").touch()
    load_speech.cache_clear()
    assert load_speech(own, tmp_path).digest == found.digest
    other = load_speech(own, write_clips(tmp_path / "other", 16, seed=1))
    assert other.digest != found.digest  # the same words, other sounds
    for count, says in ((1, "0 utterances .* for valid, and 1 are needed"), (7, "for test, and 1")):
        folder = write_clips(tmp_path / f"few-{count}", count)
        with pytest.raises(UserError, match=f"{says}.* or add clips .of 8, one is for valid"):
            load_speech(own, folder)
    real = load_speech(tiny_config(spoken_text, real="recordings"), tmp_path)
    assert len(real.sets["real"]) == 6
    assert {each.text for each in real.sets["real"]} >= {"00 1", "00 2", "01 1"}


def test_what_is_only_tested_on_trains_nothing() -> None:
    config = SpeechConfig(real="ljspeech-sample")
    assert config.trained_on() == SpeechConfig()
