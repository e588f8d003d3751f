"""Recorded speech with aligned phonemes: LJ Speech, whole or in part, or yours, from a folder.

LJ Speech 1.1 (K. Ito, 2017; public domain) comes without alignments. Those looked for here are
Praat TextGrids with tiers "words" and "phones" (ARPAbet with stress), as the Montreal Forced
Aligner writes them and as the authors of FastSpeech2 (ming024/FastSpeech2) hand them out.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..kit.download import Remote, from_folder
from .espeak import SAMPLE_RATE, Speech, unstressed
from .mel import read_wav
from .textgrid import Interval, decoded, read_tiers

SAMPLE = Remote(
    name="ljspeech-sample",
    file="LJSpeech-1.1-sample.tar.gz",
    url="",
    sha256="2d9dd3d9634b8d10c0868307636c6f86e1b8c98b7edccac57eda1fa639a65756",
)
OFFICIAL = "LJSpeech-1.1"
METADATA = "852bce5c79e5184ba5bf2ea98aad4bcf49a5d787def5fd1f04fa2ab8aa6dc535"  # metadata.csv
URL = "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2"
WAVS, GRIDS = "wavs", "TextGrid"  # folders
ENDINGS = {WAVS: ".wav", GRIDS: ".textgrid"}  # in lower case
TIERS = {"words": ("words", "word"), "phones": ("phones", "phone", "phonemes")}  # in lower case
# As aligners write them: Montreal's, Kaldi's, Festival's, WebMAUS's, TIMIT's. In lower case.
SILENCES = frozenset(("", "sil", "sp", "<eps>", "<sil>", "<p:>", "<p>", "pau", "h#", "#", "_"))
NOISES = frozenset(("spn", "<spn>", "<unk>", "<nib>", "nsn", "<oov>"))
OFF = 0.1  # seconds that a TextGrid may end before or after its WAV
SLACK = 0.02  # seconds that the ends of words and phones may be apart
UNKNOWN_WORDS = "words that the aligner did not know"
APART = f"words whose phones are missing, silent or over {1000 * SLACK:.0f} ms off"
OUTSIDE = "phones outside words"
ALONE = "words alone between pauses"
LONG = "words too long"
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


@dataclass(frozen=True)
class Cut:
    """What a clip gives: runs of words, and how much of it is left out, by reason."""

    pieces: list[Speech]
    left_out: Counter[str]


@dataclass(frozen=True)
class Clip:
    """Where a clip's files are found: by path within the data set."""

    name: str
    wav: str
    grid: str
    read: Callable[[str], bytes]

    def cut(self, longest: float) -> Cut:
        """Cut the clip between words into runs of two or more, of at most ``longest`` seconds.

        Silences are left out without a count; words that cannot be used are counted.

        Raises ``UserError`` for a broken WAV, a TextGrid without words and phones, or one that is
        not as long as the WAV.
        """
        samples = read_wav(self.read(self.wav), self.wav)
        words, phones = read_textgrid(decoded(self.read(self.grid), self.grid), self.grid)
        seconds, last = len(samples) / SAMPLE_RATE, phones[-1].end
        if abs(seconds - last) > OFF:
            raise UserError(
                f"{self.grid} ends at {last:.2f} s, {self.wav} at {seconds:.2f} s: they do not "
                "belong together; align it again"
            )
        spoken, left_out = _spoken(words, [p for p in phones if p.start < seconds])
        pieces = []
        for run in _runs(spoken, longest, left_out):
            start, end = (round(at * SAMPLE_RATE) for at in (run[0].start, run[-1].end))
            ends = np.array([round(p.end * SAMPLE_RATE) for p in run], dtype=np.int64)
            within = samples[start:end]
            phonemes = tuple(to_ipa(phone.text) for phone in run)
            pieces.append(Speech(within, phonemes, np.minimum(ends - start, len(within))))
        return Cut(pieces, left_out)


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
    """List whatever lies in wavs, with the TextGrid of the same name."""
    sounds, grids = (by_stem(data_dir / kind, kind) for kind in (WAVS, GRIDS))
    if not sounds:
        raise UserError(
            f"{data_dir} holds no {WAVS}/NAME.wav; recordings are such files (22,050 Hz, 1 "
            f"channel, 16 bit), each with a {GRIDS}/NAME.TextGrid"
        )
    alone = sorted(sounds.keys() ^ grids.keys())
    if alone:
        lacks = "TextGrid" if alone[0] in sounds else "WAV"
        raise UserError(
            f"{data_dir} has no {lacks} of {alone[0]!r}"
            + (f" ({len(alone)} files are without partner)" if len(alone) > 1 else "")
            + f"; every {WAVS}/NAME.wav needs a {GRIDS}/NAME.TextGrid: add it, or move the other "
            "away"
        )
    read = _reader(data_dir)
    named = ((name, sounds[name].name, grids[name].name) for name in sorted(sounds))
    return [Clip(name, f"{WAVS}/{wav}", f"{GRIDS}/{grid}", read) for name, wav, grid in named]


def by_stem(folder: Path, kind: str) -> dict[str, Path]:
    """Find the WAVs or TextGrids of a folder, whatever the case of their endings.

    Hidden files are passed over, such as the ``._x.wav`` that macOS puts beside ``x.wav``.

    Raises ``UserError`` where two differ in their ending alone.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() != ENDINGS[kind] or path.name.startswith("."):
            continue
        if path.stem in found:
            raise UserError(
                f"{folder} holds {found[path.stem].name} and {path.name}, one clip twice; move one "
                "away"
            )
        found[path.stem] = path
    return found


def _reader(root: Path) -> Callable[[str], bytes]:
    def read(path: str) -> bytes:
        try:
            return (root / path).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {root / path} ({error.strerror})") from error

    return read


def _listed(metadata: bytes, read: Callable[[str], bytes]) -> list[Clip]:
    names = [line.partition("|")[0] for line in metadata.decode().splitlines()]
    return [Clip(n, f"{WAVS}/{n}.wav", f"{GRIDS}/{n}.TextGrid", read) for n in names if n]


def read_textgrid(text: str, name: str) -> tuple[list[Interval], list[Interval]]:
    """Read the words and the phones of a TextGrid.

    Raises ``UserError`` where one of the tiers is missing, empty or there twice.
    """
    tiers = read_tiers(text, name)
    found = []
    for wanted, names in TIERS.items():
        fitting = [(tier, each) for tier, each in tiers if tier.lower() in names]
        if len(fitting) != 1:
            there = ", ".join(repr(tier[:40]) for tier, _ in tiers) or "none"
            raise UserError(
                f'{name} needs one tier "{wanted}" of intervals, not {len(fitting)}; its tiers '
                f"of intervals are {there}. Rename it, or align the clip again"
            )
        if not fitting[0][1]:
            raise UserError(f'the tier "{wanted}" of {name} is empty; align the clip again')
        found.append(fitting[0][1])
    return found[0], found[1]


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


def _spoken(
    words: list[Interval], phones: list[Interval]
) -> tuple[list[list[Interval] | None], Counter[str]]:
    """Sort phones into words: a list for each word, None for a pause or what cannot be used.

    A phone belongs to the word that its middle lies in; the two tiers may be ``SLACK`` apart.
    """
    left_out: Counter[str] = Counter()
    middles = [(phone.start + phone.end) / 2 for phone in phones]
    found: list[list[Interval] | None] = []
    within = 0
    for word in words:
        inside = phones[bisect_left(middles, word.start) : bisect_left(middles, word.end)]
        speech = [phone for phone in inside if phone.text.lower() not in SILENCES]
        if word.text.lower() in SILENCES:
            found.append(None)
            continue
        within += len(speech)
        noise = NOISES.intersection(label.text.lower() for label in (word, *inside))
        if noise or not _covers(inside, word) or len(speech) < len(inside):
            left_out[UNKNOWN_WORDS if noise else APART] += 1
            found.append(None)
        else:
            found.append(inside)
    outside = sum(phone.text.lower() not in SILENCES for phone in phones) - within
    if outside:
        left_out[OUTSIDE] = outside
    return found, left_out


def _covers(phones: list[Interval], word: Interval) -> bool:
    """Say whether phones fill a word, up to ``SLACK`` at each border."""
    ends = [word.start, *(phone.end for phone in phones)]
    starts = [*(phone.start for phone in phones), word.end]
    return bool(phones) and all(abs(b - a) <= SLACK for a, b in zip(ends, starts, strict=True))


def _runs(
    words: list[list[Interval] | None], longest: float, left_out: Counter[str]
) -> Iterator[list[Interval]]:
    """Phones of as many words as fit, at least two, one run after the other."""
    run: list[list[Interval]] = []
    for word in [*words, None]:
        joins = run and word and word[0].start - run[-1][-1].end <= SLACK
        if word and joins and word[-1].end - run[0][0].start <= longest:
            run.append(word)
            continue
        if len(run) > 1:
            yield [phone for each in run for phone in each]
        left_out[ALONE] += len(run) == 1
        run = []
        if word and word[-1].end - word[0].start <= longest:
            run = [word]
        elif word:
            left_out[LONG] += 1
