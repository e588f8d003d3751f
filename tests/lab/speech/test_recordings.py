"""Recordings: TextGrids read, cut between words, phones as eSpeak NG writes them, or refused."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from resonant.errors import UserError
from resonant.lab.speech import recordings
from resonant.lab.speech.espeak import SAMPLE_RATE
from resonant.lab.speech.mel import wav_bytes
from resonant.lab.speech.recordings import Clip, Interval, clips, plainer, read_textgrid, to_ipa

WORDS = [
    (0.0, 0.2, ""),
    (0.2, 0.5, "in"),
    (0.5, 0.9, "being"),
    (0.9, 1.5, "modern"),
    (1.5, 1.7, ""),
    (1.7, 2.0, "the"),
    (2.0, 2.3, "<unk>"),
    (2.3, 2.6, "old"),
    (2.6, 2.9, "art"),
]
PHONES = [
    (0.0, 0.2, "sil"),
    (0.2, 0.35, "IH1"),
    (0.35, 0.5, "N"),
    (0.5, 0.6, "B"),
    (0.6, 0.7, "IY1"),
    (0.7, 0.8, "IH0"),
    (0.8, 0.9, "NG"),
    (0.9, 1.2, "AA1"),
    (1.2, 1.5, "N"),
    (1.5, 1.7, "sp"),
    (1.7, 1.8, "DH"),
    (1.8, 2.0, "AH0"),
    (2.0, 2.3, "spn"),
    (2.3, 2.4, "OW1"),
    (2.4, 2.6, "L"),
    (2.6, 2.8, "AA1"),
    (2.8, 2.9, "T"),
]


def textgrid(words: list[tuple[float, float, str]], phones: list[tuple[float, float, str]]) -> str:
    """A long TextGrid, as Praat writes it."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 2.9"]
    lines += ["tiers? <exists>", "size = 2", "item []:"]
    for number, (name, tier) in enumerate((("words", words), ("phones", phones)), start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", "        xmax = 2.9"]
        lines += [f"        intervals: size = {len(tier)}"]
        for index, (start, end, text) in enumerate(tier, start=1):
            doubled = text.replace('"', '""')
            lines += [f"        intervals [{index}]:", f"            xmin = {start}"]
            lines += [f"            xmax = {end}", f'            text = "{doubled}"']
    return "\n".join(lines) + "\n"


FILES = {
    "metadata.csv": b"A1|in being modern|in being modern\n",
    "wavs/A1.wav": wav_bytes(np.arange(round(2.9 * SAMPLE_RATE)).astype(np.int16)),
    "TextGrid/A1.TextGrid": textgrid(WORDS, PHONES).encode(),
}


def write(folder: Path, **instead: bytes | None) -> Path:
    """The files unpacked; ``instead`` replaces by the first part of the path, None leaves out."""
    for name, content in FILES.items():
        given = instead.get(name.partition("/")[0].partition(".")[0], content)
        if given is not None:
            path = folder / "LJSpeech-1.1" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(given)
    return folder


def write_clips(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Recordings of one's own: the same words, other sounds."""
    draw = np.random.default_rng(seed)
    for kind in ("wavs", "TextGrid"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = draw.normal(0.0, 0.1, round(2.9 * SAMPLE_RATE))
        (folder / "wavs" / f"{number:02}.wav").write_bytes(wav_bytes(noise))
        grid = folder / "TextGrid" / f"{number:02}.TextGrid"
        grid.write_bytes(FILES["TextGrid/A1.TextGrid"])
    return folder


@pytest.fixture(autouse=True)
def official(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the official metadata were ours."""
    monkeypatch.setattr(recordings, "METADATA", hashlib.sha256(FILES["metadata.csv"]).hexdigest())


def test_intervals_are_read_by_tier() -> None:
    words, phones = read_textgrid(textgrid(WORDS, PHONES), "x")
    assert words == [Interval(*each) for each in WORDS]
    assert phones == [Interval(*each) for each in PHONES]


def test_pieces_are_whole_words_without_silence_or_strangers(tmp_path: Path) -> None:
    (clip,) = clips("ljspeech", write(tmp_path))
    long = clip.cut(2.0).pieces
    assert [len(each.phonemes) for each in long] == [8, 4]
    assert long[0].phonemes == ("ˈɪ", "n", "b", "ˈiː", "ɪ", "ŋ", "ˈɑː", "n")
    first = long[0]
    assert first.samples[0] == np.int16(round(0.2 * SAMPLE_RATE))
    expected = [round(end * SAMPLE_RATE) for end in (0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.5)]
    assert (first.ends + round(0.2 * SAMPLE_RATE)).tolist() == expected
    assert first.ends[-1] == len(first.samples)
    short = clip.cut(0.8).pieces  # "modern" is left alone, and so left out
    assert [each.phonemes[0] for each in short] == ["ˈɪ", "ˈoʊ"]
    assert all(each.seconds <= 0.8 for each in short)


def test_praat_writes_utf_16(tmp_path: Path) -> None:
    grid = FILES["TextGrid/A1.TextGrid"].decode().encode("utf-16")
    (clip,) = clips("ljspeech", write(tmp_path, TextGrid=grid))
    assert [len(each.phonemes) for each in clip.cut(2.0).pieces] == [8, 4]


def test_a_sample_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"LJSpeech-1.1-sample/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / "any").mkdir()
    path = tmp_path / "any" / recordings.SAMPLE.file
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="is not ljspeech-sample: its SHA-256 is"):
        clips("ljspeech-sample", tmp_path)
    import gzip

    digest = hashlib.sha256(gzip.decompress(buffer.getvalue())).hexdigest()
    changed = recordings.Remote("ljspeech-sample", path.name, "", digest)
    monkeypatch.setattr(recordings, "SAMPLE", changed)
    (clip,) = clips("ljspeech-sample", tmp_path)
    assert [len(each.phonemes) for each in clip.cut(2.0).pieces] == [8, 4]


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        ({"metadata": b"other"}, "is not that of LJ Speech 1.1"),
        ({"metadata": None}, "does not hold LJSpeech-1.1/metadata.csv; unpack https"),
        ({"TextGrid": None}, "LJ Speech comes without alignments. Put TextGrids there"),
        ({"wavs": None}, "cannot read .*A1.wav"),
        ({"wavs": b"no sound"}, "wavs/A1.wav is no WAV file"),
        ({"wavs": wav_bytes(np.ones(SAMPLE_RATE))}, "ends at 2.90 s, .* do not belong together"),
        ({"TextGrid": b"\xff\x00 broken \xe9"}, "is neither UTF-8 nor UTF-16"),
        ({"TextGrid": b"nothing"}, "A1.TextGrid has nothing for its kind, where a text in quotes"),
    ],
)
def test_what_is_missing_or_broken(
    tmp_path: Path, instead: dict[str, bytes | None], says: str
) -> None:
    folder = write(tmp_path, **instead)
    with pytest.raises(UserError, match=says):
        [clip.cut(2.0).pieces for clip in clips("ljspeech", folder)]


def test_without_a_folder() -> None:
    with pytest.raises(UserError, match=r"recordings is read .* --data-dir FOLDER$"):
        clips("recordings", None)
    with pytest.raises(UserError, match=r"pass --data-dir FOLDER with LJSpeech-1\.1 unpacked"):
        clips("ljspeech", None)
    with pytest.raises(UserError, match=r"read from a folder: pass --data-dir FOLDER$"):
        clips("ljspeech-sample", None)


def test_phones_as_espeak_writes_them() -> None:
    given = ("AY1", "AH0", "AH1", "ER0", "ER1", "IY0", "IY2", "NG", "OW2", "HH")
    assert [to_ipa(each) for each in given] == [
        "ˈaɪ", "ə", "ˈʌ", "ɚ", "ˈɜː", "i", "ˌiː", "ŋ", "ˌoʊ", "h",
    ]  # fmt: skip
    assert to_ipa("øː") == "øː"  # of another language's aligner


def test_what_espeak_writes_in_plainer_phonemes() -> None:
    given = ("ɾ", "ᵻ", "ˈɔːɹ", "əl", "ˈaɪ", "ɹ", "ˈaɪə")
    assert [plainer(each) for each in given] == [
        ("t",), ("ɪ",), ("ˈɔː", "ɹ"), ("ə", "l"), ("ˈaɪ",), ("ɹ",), ("ˈaɪ", "ə"),
    ]  # fmt: skip


def test_recordings_of_your_own(tmp_path: Path) -> None:
    folder = write(tmp_path) / "LJSpeech-1.1"
    (folder / "metadata.csv").unlink()
    (clip,) = clips("recordings", folder)
    assert [len(each.phonemes) for each in clip.cut(2.0).pieces] == [8, 4]
    with pytest.raises(UserError, match=r"holds no wavs/NAME\.wav; recordings are such files"):
        clips("recordings", tmp_path)


def test_every_phone_is_one_that_espeak_writes() -> None:
    """Each IPA symbol occurs in what eSpeak NG says of words that have it."""
    from resonant.lab.speech.espeak import Job, speak

    words = (
        "father cat cup law cow my be church do the bed bird day fun go he sit see judge key let "
        "me no sing go boy pie red so shoe tea thin book too van we yes zoo vision"
    )
    heard = {p.strip("ˈˌ") for p in speak(Job(words)).phonemes}
    assert set(recordings.IPA.values()) <= heard | {"ɔː", "ɑː"}


def test_a_clip_reads_its_files_when_asked() -> None:
    read: list[str] = []

    def fetch(path: str) -> bytes:
        read.append(path)
        return FILES[path]

    clip = Clip("A1", "wavs/A1.wav", "TextGrid/A1.TextGrid", fetch)
    assert not read
    assert clip.cut(2.0).pieces
    assert read == ["wavs/A1.wav", "TextGrid/A1.TextGrid"]
