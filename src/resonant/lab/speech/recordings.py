"""Recorded speech with aligned phonemes: LJ Speech, whole or in part, or yours, from a folder.

LJ Speech 1.1 (K. Ito, 2017; public domain) comes without alignments. Those looked for here are
Praat TextGrids with tiers "words" and "phones" (ARPAbet with stress), as the Montreal Forced
Aligner writes them and as the authors of FastSpeech2 (ming024/FastSpeech2) hand them out.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..kit.download import Remote, from_folder
from .espeak import SAMPLE_RATE, Speech, unstressed
from .mel import read_wav

SAMPLE = Remote(
    name="ljspeech-sample",
    file="LJSpeech-1.1-sample.tar.gz",
    url="",
    sha256="2d9dd3d9634b8d10c0868307636c6f86e1b8c98b7edccac57eda1fa639a65756",
)
OFFICIAL = "LJSpeech-1.1"
METADATA = "852bce5c79e5184ba5bf2ea98aad4bcf49a5d787def5fd1f04fa2ab8aa6dc535"  # metadata.csv
URL = "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2"
SILENCES = ("", "sil", "sp")
SPOKEN_NOISE = "spn"  # the aligner did not know the word
OFF = 0.1  # seconds that a TextGrid may end before or after its WAV
# ARPAbet to the IPA that eSpeak NG writes for en-us; stress marks come from the digit.
IPA = {
    "AA": "ɑː", "AE": "æ", "AH": "ʌ", "AO": "ɔː", "AW": "aʊ", "AY": "aɪ", "B": "b", "CH": "tʃ",
    "D": "d", "DH": "ð", "EH": "ɛ", "ER": "ɜː", "EY": "eɪ", "F": "f", "G": "ɡ", "HH": "h",
    "IH": "ɪ", "IY": "iː", "JH": "dʒ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ",
    "OW": "oʊ", "OY": "ɔɪ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ",
    "UH": "ʊ", "UW": "uː", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ",
}  # fmt: skip
UNSTRESSED = {"AH0": "ə", "ER0": "ɚ", "IY0": "i"}  # vowels that eSpeak NG writes otherwise
STRESS = {"1": "ˈ", "2": "ˌ"}
# What eSpeak NG writes for en-us beyond the ARPAbet, in what the ARPAbet has.
PLAINER = {
    "ɾ": ("t",),
    "ʔ": ("t",),
    "ᵻ": ("ɪ",),
    "ɐ": ("ə",),
    "əl": ("ə", "l"),
    "n̩": ("ə", "n"),
    "aɪə": ("aɪ", "ə"),
    "aɪɚ": ("aɪ", "ɚ"),
    "iə": ("iː", "ə"),
    "oː": ("ɔː",),
    "ɜ": ("ɜː",),
}
_INTERVAL = re.compile(r'xmin = (\S+)\s+xmax = (\S+)\s+text = "([^"]*)"')
_TIER = re.compile(r'name = "(words|phones)"(.*?)(?=item \[|\Z)', re.DOTALL)


@dataclass(frozen=True)
class Interval:
    """A word or a phone from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Clip:
    """Where a clip's files are found: by path within the data set."""

    name: str
    read: Callable[[str], bytes]

    def pieces(self, longest: float) -> Iterator[Speech]:
        """Runs of two words or more, cut between words, of at most ``longest`` seconds.

        Silences and words that the aligner did not know are left out.

        Raises ``UserError`` for a broken WAV, a TextGrid without words and phones, or one that is
        not as long as the WAV.
        """
        wav = f"wavs/{self.name}.wav"
        samples = read_wav(self.read(wav), wav)
        grid = f"TextGrid/{self.name}.TextGrid"
        words, phones = read_textgrid(_decoded(self.read(grid), grid), grid)
        seconds, last = len(samples) / SAMPLE_RATE, phones[-1].end
        if abs(seconds - last) > OFF:
            raise UserError(
                f"{grid} ends at {last:.2f} s, {wav} at {seconds:.2f} s: they do not belong "
                "together; align it again"
            )
        for first, last in _runs(words, longest):
            inside = [p for p in phones if p.start >= first - 1e-6 and p.end <= last + 1e-6]
            if not inside or any(p.text in (*SILENCES, SPOKEN_NOISE) for p in inside):
                continue
            start, end = round(first * SAMPLE_RATE), round(last * SAMPLE_RATE)
            ends = [round(p.end * SAMPLE_RATE) - start for p in inside]
            phonemes = tuple(to_ipa(phone.text) for phone in inside)
            yield Speech(samples[start:end], phonemes, np.array(ends, dtype=np.int64))


def _decoded(content: bytes, name: str) -> str:
    """The text of a TextGrid; Praat writes UTF-16 where it needs more than ASCII."""
    wide = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is neither UTF-8 nor UTF-16 ({error}); save it anew") from error


def clips(name: str, data_dir: Path | None) -> list[Clip]:
    """The clips of "ljspeech", "ljspeech-sample" or, yours, "recordings", in order.

    Raises ``UserError`` when the folder lacks them or they are others.
    """
    if data_dir is None:
        raise UserError(
            f"{name} is read from a folder: pass --data-dir FOLDER"
            + (f" with {OFFICIAL} unpacked in it, from {URL}" if name == "ljspeech" else "")
        )
    if name == SAMPLE.name:
        return _sample(from_folder(SAMPLE, data_dir))
    return _official(data_dir) if name == "ljspeech" else _yours(data_dir)


def _sample(content: bytes) -> list[Clip]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = {}
        for member in archive.getmembers():
            opened = archive.extractfile(member)
            if opened is not None:
                files[member.name.partition("/")[2]] = opened.read()
    return _listed(files["metadata.csv"], files.__getitem__)


def _official(data_dir: Path) -> list[Clip]:
    root = data_dir / OFFICIAL if (data_dir / OFFICIAL).is_dir() else data_dir
    if not (root / "metadata.csv").is_file():
        raise UserError(f"{data_dir} does not hold {OFFICIAL}/metadata.csv; unpack {URL} there")
    metadata = (root / "metadata.csv").read_bytes()
    if hashlib.sha256(metadata).hexdigest() != METADATA:
        raise UserError(
            f"{root / 'metadata.csv'} is not that of LJ Speech 1.1 (its SHA-256 is not "
            f"{METADATA[:16]}...); unpack {URL} anew"
        )
    if not (root / "TextGrid").is_dir():
        raise UserError(
            f"{root} has no folder TextGrid: LJ Speech comes without alignments. Put TextGrids "
            "there, TextGrid/LJ001-0001.TextGrid and so on, as the Montreal Forced Aligner writes "
            "them or as github.com/ming024/FastSpeech2 hands them out"
        )
    return _listed(metadata, _reader(root))


def _yours(data_dir: Path) -> list[Clip]:
    """Whatever lies in wavs, with the TextGrid of the same name."""
    names = sorted(path.stem for path in (data_dir / "wavs").glob("*.wav"))
    if not names:
        raise UserError(
            f"{data_dir} holds no wavs/NAME.wav; recordings are such files (22,050 Hz, 1 channel, "
            "16 bit), each with a TextGrid/NAME.TextGrid"
        )
    return [Clip(name, _reader(data_dir)) for name in names]


def _reader(root: Path) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        try:
            return (root / path).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {root / path} ({error.strerror})") from error

    return read


def _listed(metadata: bytes, read: Callable[[str], bytes]) -> list[Clip]:
    names = [line.partition("|")[0] for line in metadata.decode().splitlines()]
    return [Clip(name, read) for name in names if name]


def read_textgrid(text: str, name: str) -> tuple[list[Interval], list[Interval]]:
    """Words and phones.

    Raises ``UserError`` where one of the tiers is missing or empty.
    """
    tiers = {
        tier: [Interval(float(a), float(b), text) for a, b, text in _INTERVAL.findall(body)]
        for tier, body in _TIER.findall(text)
    }
    if not tiers.get("words") or not tiers.get("phones"):
        raise UserError(
            f'{name} is no TextGrid with tiers "words" and "phones" of intervals; make it again'
        )
    return tiers["words"], tiers["phones"]


def to_ipa(phone: str) -> str:
    """A phone in ARPAbet as eSpeak NG writes it: AY1 is ˈaɪ. Others (IPA) stay as they are."""
    base, stress = phone.rstrip("012"), phone[-1:]
    if base not in IPA:
        return phone
    return UNSTRESSED.get(phone) or STRESS.get(stress, "") + IPA[base]


def plainer(phoneme: str) -> tuple[str, ...]:
    """A phoneme of eSpeak NG in those of the ARPAbet, stress kept: ˈɔːɹ is ˈɔː, ɹ."""
    base = unstressed(phoneme)
    mark = phoneme[: len(phoneme) - len(base)]
    if len(base) > 1 and base.endswith("ɹ"):
        return (mark + base[:-1], "ɹ")
    first, *rest = PLAINER.get(base, (base,))
    return (mark + first, *rest)


def _runs(words: list[Interval], longest: float) -> Iterator[tuple[float, float]]:
    """Starts and ends of as many words as fit, at least two, one run after the other."""
    run: list[Interval] = []
    for word in [*words, Interval(0.0, 0.0, "")]:
        whole = word.text not in (*SILENCES, "<unk>")
        if whole and (not run or word.end - run[0].start <= longest):
            run.append(word)
            continue
        if len(run) > 1:
            yield run[0].start, run[-1].end
        run = [word] if whole and word.end - word.start <= longest else []
