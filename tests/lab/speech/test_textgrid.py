"""TextGrids as people have them: both formats, quotes, pauses by many names, broken times."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonant.errors import UserError
from resonant.lab.speech.espeak import SAMPLE_RATE, Speech
from resonant.lab.speech.mel import wav_bytes
from resonant.lab.speech.recordings import ALONE, APART, LONG, OUTSIDE, UNKNOWN_WORDS, Cut, clips
from resonant.lab.speech.textgrid import Interval, decoded, read_tiers

from .test_recordings import PHONES, WORDS, textgrid

Tier = list[tuple[float, float, str]]


def short(words: Tier, phones: Tier, header: str = "ooTextFile") -> str:
    """A short TextGrid, as Praat writes it."""
    lines = [f'File type = "{header}"', '"TextGrid"', "", "0", "2.9", "<exists>", "2"]
    for name, tier in (("words", words), ("phones", phones)):
        lines += ['"IntervalTier"', f'"{name}"', "0", "2.9", str(len(tier))]
        for start, end, text in tier:
            doubled = text.replace('"', '""')
            lines += [str(start), str(end), f'"{doubled}"']
    return "\n".join(lines) + "\n"


def cut(folder: Path, words: Tier, phones: Tier, longest: float = 3.0) -> Cut:
    """What a clip of one's own gives."""
    end = max(end for _, end, _ in phones)
    for kind in ("wavs", "TextGrid"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / "wavs" / "a.wav").write_bytes(wav_bytes(np.ones(round(end * SAMPLE_RATE), np.int16)))
    (folder / "TextGrid" / "a.TextGrid").write_text(textgrid(words, phones))
    (clip,) = clips("recordings", folder)
    return clip.cut(longest)


def phones_of(pieces: list[Speech]) -> list[tuple[str, ...]]:
    return [each.phonemes for each in pieces]


@pytest.mark.parametrize("text", [textgrid, short])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_long_and_short_hold_the_same(text: Callable[[Tier, Tier], str], ends: str) -> None:
    content = text(WORDS, PHONES).replace("\n", ends)
    assert read_tiers(content, "x") == [
        ("words", [Interval(*each) for each in WORDS]),
        ("phones", [Interval(*each) for each in PHONES]),
    ]


def test_the_old_header_of_short_files_and_lines_without_blanks() -> None:
    tiers = read_tiers(short(WORDS, PHONES, "ooTextFile short"), "x")
    assert [name for name, _ in tiers] == ["words", "phones"]
    tight = textgrid(WORDS, PHONES).replace(" = ", "=")
    assert read_tiers(tight, "x") == tiers


@given(labels=st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_any_label_comes_back(labels: list[str]) -> None:
    """Quotes, brackets, "intervals [2]:", exclamation marks, lines: but for blanks around it."""
    tier = [(float(i), i + 1.0, label) for i, label in enumerate(labels)]
    for text in (textgrid, short):
        (_, words), (_, phones) = read_tiers(text(tier, tier), "x")
        assert [each.text for each in words] == [label.strip() for label in labels]
        assert words == phones


@pytest.mark.parametrize("label", ['"I', 'say "hi"', "item [2]:", "xmin = 3", "! no", "<exists>"])
def test_labels_that_look_like_something_else(label: str) -> None:
    tier = [(0.0, 1.0, label), (1.0, 2.0, "b")]
    assert read_tiers(textgrid(tier, tier), "x")[0][1][0].text == label
    assert read_tiers(short(tier, tier), "x")[1][1][0].text == label


def test_tiers_of_points_and_comments_are_passed_over() -> None:
    text = short(WORDS, PHONES).replace("<exists>\n2\n", "<exists>\n3 ! tiers\n")
    text += '"TextTier"\n"bells"\n0\n2.9\n2\n0.5\n"ding"\n1.5\n"dong"\n'
    assert [name for name, _ in read_tiers(text, "x")] == ["words", "phones"]


def changed(old: str, new: str) -> str:
    text = textgrid(WORDS, PHONES)
    assert old in text
    return text.replace(old, new, 1)


THIRD = "xmin = 0.5\n            xmax = 0.9"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (changed(THIRD, "xmin = nan\n xmax = 0.9"), 'nan for the start of interval 3 of tier "wo'),
        (changed(THIRD, "xmin = 0.5\n xmax = inf"), 'inf for the end of interval 3 of tier "wor'),
        (changed(THIRD, "xmin = --undefined--\n xmax = 0.9"), "--undefined-- for the start of i"),
        (changed(THIRD, "xmin = 0.5\n xmax = 1e999"), "inf for the end of interval 3"),
        (changed(THIRD, "xmin = 0,5\n xmax = 0,9"), r"0,5 for the start .*with a decimal point"),
        (changed(THIRD, "xmin = 0.9\n xmax = 0.5"), "from 0.9 to 0.5 s, runs backward or is empt"),
        (changed(THIRD, "xmin = 0.5\n xmax = 0.5"), "'being', from 0.5 to 0.5 s, runs backward"),
        (changed(THIRD, "xmin = 0.4\n xmax = 0.9"), 'interval 3 of tier "words" of x, .* overlaps'),
        (changed("xmin = 0.0\n", "xmin = -0.5\n"), "interval 1 .* begins before the recording"),
        (
            changed("intervals: size = 9", "intervals: size = 8"),
            "x has 2[.]6 for the class of tier 2",
        ),
        (changed("intervals: size = 9", "intervals: size = 10"), "for the start of interval 10 of"),
        (changed("intervals: size = 9", "intervals: size = -1"), "-1 for the number of intervals"),
        (changed("intervals: size = 9", "intervals: size = 1e99"), "for the start of interval 10"),
        (changed("size = 2", "size = 1"), "goes on with IntervalTier after as many tiers"),
        (changed("IntervalTier", "PitchTier"), "tier 1 of x is a 'PitchTier', which is none"),
        (changed('"being"', '"be"ing"'), "line 26 of x has a text whose quotes do not close"),
        (changed("<exists>", "<absent>"), "x has <absent> for the line about its tiers"),
        (textgrid(WORDS, PHONES)[:-2], "line 124 of x has a text whose quotes do not close"),
        (textgrid(WORDS, PHONES)[:900], "x has nothing for|whose quotes do not close"),
        ("", "x has nothing for its kind"),
        ("{}", "x has nothing for its kind"),
        ('"Praat chronological TextGrid text file"\n0 2.9', "begins with 'Praat chronological Te"),
        ('File type = "ooTextFile"\nObject class = "PitchTier"', "x holds a 'PitchTier' of Praat"),
    ],
)
def test_what_is_broken_is_named(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_tiers(text, "x")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_with_and_without_marks(encoding: str) -> None:
    text = textgrid([(0.0, 1.0, "schön")], PHONES)
    assert decoded(text.encode(encoding), "x") == text


def test_words_that_begin_like_numbers_are_comments() -> None:
    text = textgrid(WORDS, PHONES).replace("item []:", "information about nanny items []:")
    assert [name for name, _ in read_tiers(text, "x")] == ["words", "phones"]


def test_binary_files_are_named() -> None:
    with pytest.raises(UserError, match="x is one of Praat's binary files; save it from Praat"):
        decoded(b"ooBinaryFile\x08TextGrid\x00\x00", "x")


def test_a_label_with_a_quote_is_no_silence(tmp_path: Path) -> None:
    words = [(0.0, 0.4, '"in'), (0.4, 0.8, 'being"'), (0.8, 1.0, "")]
    phones = [(0.0, 0.4, "IH1"), (0.4, 0.8, '"I'), (0.8, 1.0, "")]
    assert phones_of(cut(tmp_path, words, phones).pieces) == [("ˈɪ", '"I')]


@pytest.mark.parametrize("silence", ["", "sil", "SIL", "sp", "<eps>", " sil ", "<SIL>", "pau", "#"])
def test_silences_by_many_names_are_pauses(tmp_path: Path, silence: str) -> None:
    words = [(0.0, 0.3, "in"), (0.3, 0.6, "my"), (0.6, 1.0, silence), (1.0, 1.3, "old")]
    words += [(1.3, 1.6, "art")]
    phones = [(0.0, 0.3, "N "), (0.3, 0.6, " M"), (0.6, 1.0, silence), (1.0, 1.3, "L")]
    phones += [(1.3, 1.6, "T")]
    found = cut(tmp_path, words, phones)
    assert phones_of(found.pieces) == [("n", "m"), ("l", "t")]
    assert not +found.left_out


def test_words_and_phones_some_milliseconds_apart_are_kept_whole(tmp_path: Path) -> None:
    """The last phone decides where a word ends."""
    words = [(0.0, 0.296, "in"), (0.296, 0.596, "being"), (0.6, 1.0, "")]
    phones = [(0.0, 0.3, "N"), (0.3, 0.45, "B"), (0.45, 0.6, "NG"), (0.6, 1.0, "sil")]
    found = cut(tmp_path, words, phones)
    assert phones_of(found.pieces) == [("n", "b", "ŋ")]
    ends = [round(end * SAMPLE_RATE) for end in (0.3, 0.45, 0.6)]
    assert found.pieces[0].ends.tolist() == ends
    assert len(found.pieces[0].samples) == ends[-1]
    assert not +found.left_out


def test_what_is_left_out_is_counted_by_its_reason(tmp_path: Path) -> None:
    words = [(0.0, 0.3, "a"), (0.3, 0.6, "b"), (0.6, 0.9, "c"), (0.9, 1.2, "d")]
    words += [(1.2, 1.5, "<unk>"), (1.5, 1.8, "e"), (1.8, 2.1, ""), (2.1, 5.9, "f")]
    phones = [(0.0, 0.3, "N"), (0.3, 0.6, "M"), (0.6, 0.85, "L"), (0.9, 1.05, "T")]
    phones += [(1.05, 1.2, "sp"), (1.2, 1.5, "spn"), (1.5, 1.8, "K"), (1.8, 2.1, "K")]
    phones += [(2.1, 5.9, "S")]
    found = cut(tmp_path, words, phones)
    assert phones_of(found.pieces) == [("n", "m")]
    assert +found.left_out == {UNKNOWN_WORDS: 1, APART: 2, ALONE: 1, OUTSIDE: 1, LONG: 1}


def test_a_pause_that_no_interval_fills_is_a_pause(tmp_path: Path) -> None:
    words = [(0.0, 0.3, "a"), (0.3, 0.6, "b"), (1.0, 1.3, "c"), (1.3, 1.6, "d")]
    phones = [(0.0, 0.3, "N"), (0.3, 0.6, "M"), (1.0, 1.3, "L"), (1.3, 1.6, "T")]
    assert phones_of(cut(tmp_path, words, phones).pieces) == [("n", "m"), ("l", "t")]


def test_phones_after_the_sound_ends_are_cut_to_it(tmp_path: Path) -> None:
    words = [(0.0, 0.3, "a"), (0.3, 0.64, "b"), (0.64, 0.68, "c")]
    phones = [(0.0, 0.3, "N"), (0.3, 0.64, "M"), (0.64, 0.68, "L")]
    cut(tmp_path, words, phones)
    short_wav = wav_bytes(np.ones(round(0.6 * SAMPLE_RATE), np.int16))
    (tmp_path / "wavs" / "a.wav").write_bytes(short_wav)
    (clip,) = clips("recordings", tmp_path)
    (piece,) = clip.cut(3.0).pieces
    assert piece.phonemes == ("n", "m")
    assert piece.ends[-1] == len(piece.samples) == round(0.6 * SAMPLE_RATE)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("words", "MAU"),
            r"a needs? one tier .phones. of intervals, not 0; its tiers .* are 'words', 'MAU",
        ),
        (("words", "words"), "one tier .words. of intervals, not 2; its tiers"),
        (("", ""), "needs one tier .words.*not 0; .*are '', ''. Rename it"),
    ],
)
def test_tiers_are_named_once(tmp_path: Path, names: tuple[str, str], says: str) -> None:
    cut(tmp_path, WORDS, PHONES)
    path = tmp_path / "TextGrid" / "a.TextGrid"
    text = path.read_text().replace('"words"', f'"{names[0]}"').replace('"phones"', f'"{names[1]}"')
    path.write_text(text)
    (clip,) = clips("recordings", tmp_path)
    with pytest.raises(UserError, match=says.replace("a needs?", "a.TextGrid needs")):
        clip.cut(3.0)


def test_tiers_by_usual_names(tmp_path: Path) -> None:
    cut(tmp_path, WORDS, PHONES)
    path = tmp_path / "TextGrid" / "a.TextGrid"
    path.write_text(path.read_text().replace('"words"', '"Word "').replace('"phones"', '"PHONE"'))
    (clip,) = clips("recordings", tmp_path)
    assert [len(each.phonemes) for each in clip.cut(2.0).pieces] == [8, 4]


def test_files_named_as_people_name_them(tmp_path: Path) -> None:
    cut(tmp_path, WORDS, PHONES)
    (tmp_path / "wavs" / "a.wav").rename(tmp_path / "wavs" / "b c.WAV")
    (tmp_path / "TextGrid" / "a.TextGrid").rename(tmp_path / "TextGrid" / "b c.textgrid")
    (tmp_path / "wavs" / "._b c.WAV").write_bytes(b"of macOS")
    (clip,) = clips("recordings", tmp_path)
    assert clip.name == "b c"
    assert len(clip.cut(2.0).pieces) == 2
    (tmp_path / "wavs" / "b c.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds b c\.WAV and b c\.wav, one clip twice"):
        clips("recordings", tmp_path)
    (tmp_path / "wavs" / "b c.wav").rename(tmp_path / "wavs" / "d.wav")
    with pytest.raises(UserError, match=r"no TextGrid of 'd'; every wavs/NAME\.wav needs a Text"):
        clips("recordings", tmp_path)
    (tmp_path / "wavs" / "d.wav").rename(tmp_path / "TextGrid" / "e.TextGrid")
    with pytest.raises(UserError, match=r"no WAV of 'e'"):
        clips("recordings", tmp_path)
