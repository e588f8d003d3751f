"""Speech as symbols and frames: spoken or read once, then kept in the cache folder."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import filelock
import numpy as np
import torch

from ...errors import UserError
from ..alignment.conditions import TEMPI
from ..alignment.utterances import Utterances
from ..kit.config import said
from ..kit.progress import Part, progress
from .config import SpeechConfig
from .espeak import SAMPLE_RATE, Job, Speech, check_voice, speak_all, unstressed, version
from .kept import LAYOUT, Kept, LeftOut, Spoken, keep, kept
from .mel import log_mel
from .phrases import digest as phrases_digest
from .phrases import phrases
from .recordings import ENDINGS, OFFICIAL, Clip, by_stem, clips

SPEECH_RECIPE = 1  # raise it when what is made of the same configuration changes
UNKNOWN = 0  # the id of a phoneme that the training split does not have
HELD = 8  # recordings: of so many clips one is for validation, one for testing


@dataclass(frozen=True)
class SpeechCorpus:
    """Sets by name ("train", "valid", "test@0.6", ..., "test@long", "real"), and their scales.

    Symbol i is ``symbols[i - 1]``; ``mean`` and ``spread`` of each band and ``usual``, the mean
    duration of each symbol in frames, are those of the training split. ``path`` is where the cache
    has it; ``left_out`` is what recordings have and no set does, by reason.
    """

    config: SpeechConfig
    sets: dict[str, list[Spoken]]
    symbols: tuple[str, ...]
    mean: np.ndarray
    spread: np.ndarray
    usual: np.ndarray
    digest: str
    path: Path
    left_out: LeftOut

    def batch(self, name: str, rows: Iterable[int]) -> Utterances:
        """Some utterances of a set."""
        chosen = [self.sets[name][row] for row in rows]
        ids = [phoneme_ids(each.phonemes, self.symbols) for each in chosen]
        return Utterances(
            _padded(ids),
            _padded([each.durations for each in chosen]),
            _padded([self.usual[each] for each in ids]),
            _padded([self.normalized(each.mel) for each in chosen]),
            torch.tensor([each.voice for each in chosen]),
        )

    def normalized(self, mel: np.ndarray) -> np.ndarray:
        """What models make: each band with mean 0 and spread 1 over the training split."""
        return ((mel - self.mean) / self.spread).astype(np.float32)

    def denormalized(self, frames: np.ndarray) -> np.ndarray:
        """Log-mel again."""
        return frames * self.spread + self.mean


def phoneme_ids(phonemes: Sequence[str], symbols: Sequence[str]) -> np.ndarray:
    """Ids of phonemes; one that is unknown with its stress is tried without, then ``UNKNOWN``."""
    known = {symbol: index for index, symbol in enumerate(symbols, start=1)}
    plain = (known.get(each, known.get(unstressed(each), UNKNOWN)) for each in phonemes)
    return np.array(list(plain), dtype=np.int64)


def unknown_share(spoken: Sequence[Spoken], symbols: Sequence[str]) -> float:
    """The share of their phonemes that ``symbols`` do not have."""
    ids = np.concatenate([phoneme_ids(each.phonemes, symbols) for each in spoken])
    return float((ids == UNKNOWN).mean())


@lru_cache(maxsize=2)
def load_speech(config: SpeechConfig, data_dir: Path | None) -> SpeechCorpus:
    """The speech that ``config`` names: from the cache, or made and kept there.

    Raises ``UserError`` for a text, voice, library or recording that cannot be had.
    """
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("resonant")) / "speech"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_key(config, data_dir)[:24]}.npz"
    with filelock.FileLock(path.with_suffix(".lock")):
        found = kept(path)
        if found is None:  # not made yet, or damaged since
            keep(_make(config, data_dir), path)
            found = kept(path)
            assert found is not None
        return _corpus(config, found, path)


def _make(config: SpeechConfig, data_dir: Path | None) -> Kept:
    """Speak or read all that the configuration names."""
    left_out: LeftOut = {}
    if config.name == "espeak":
        sets = _spoken(config, data_dir)
    else:
        sets = _read(config, data_dir, left_out.setdefault(config.name, {}))
    if config.real != "none":
        sets["real"] = _real(config, data_dir, left_out.setdefault(config.real, {}))
    _check_sets(config, sets, left_out)
    return Kept(sets, left_out)


def _check_sets(config: SpeechConfig, sets: dict[str, list[Spoken]], left_out: LeftOut) -> None:
    """Raise ``UserError`` where a split has nothing, or less than was to be spoken."""
    wanted = {"train": config.utterances, "valid": config.held_out, "test@1": config.held_out}
    short = config.name != "espeak"  # recordings are as many as they are
    wanted = {name: min(1, count) if short else count for name, count in wanted.items()}
    for name, count in (wanted | ({"real": 1} if config.real != "none" else {})).items():
        if len(sets[name]) < count:
            source = config.real if name == "real" else config.name
            raise UserError(
                f"{source} gives {len(sets[name])} utterances of at most {config.longest:g} s for "
                f"{name.partition('@')[0]}, and {count} are needed; raise --data.longest"
                + (
                    f", or add clips (of {HELD}, one is for validation and one for testing)"
                    if short or name == "real"
                    else " or --data.rates, or lower --data.utterances and --data.held_out"
                )
                + _not_used(left_out)
            )


def describe(corpus: SpeechCorpus) -> str:
    """One line for tables."""
    config, train = corpus.config, corpus.sets["train"]
    seconds = sum(len(each.mel) for each in train) * config.hop / SAMPLE_RATE
    source = config.name
    if config.name == "espeak":
        source = f"eSpeak NG {version()} speaking {config.text} in {len(config.voices)} voices"
    real, sets = "", corpus.sets
    if config.real != "none":
        share = 100 * unknown_share(sets["real"], corpus.symbols)
        real = f", boundaries also on {config.real} ({share:.1f} % of its phonemes unknown)"
    return (
        f"{source}: {len(train)} utterances ({seconds / 60:.0f} min) of up to {config.longest:g} "
        f"s, {len(sets['valid'])} to validate, {len(sets['test@1'])} to test, {config.bands} "
        f"bands, hop {config.hop}{real}, sha256 {corpus.digest[:12]}" + _not_used(corpus.left_out)
    )


def _not_used(left_out: LeftOut) -> str:
    """Say what is left out of which recordings, as the end of a sentence."""
    counts = {name: {why: n for why, n in each.items() if n} for name, each in left_out.items()}
    return "".join(
        f"; left out of {name}: " + ", ".join(f"{n:,} {why}" for why, n in sorted(each.items()))
        for name, each in counts.items()
        if each
    )


def frame_durations(ends: np.ndarray, frames: int, hop: int) -> np.ndarray | None:
    """Durations in frames, at least 1 each, of what ends at samples ``ends``; sum ``frames``.

    Ends are rounded to frames, then moved by as little as gives each phoneme a frame. None where
    there are more phonemes than frames.
    """
    if len(ends) > frames:
        return None
    order = np.arange(len(ends))
    rounded = np.rint(ends / hop).astype(np.int64)
    rounded[-1] = frames
    rounded = np.maximum.accumulate(np.maximum(rounded, 1) - order) + order
    rounded = np.minimum(rounded, frames - order[::-1])
    return np.diff(rounded, prepend=0)


def _key(config: SpeechConfig, data_dir: Path | None) -> str:
    """What the speech is made of."""
    made: list[object] = [LAYOUT, SPEECH_RECIPE, said(config)]
    if config.name == "espeak":
        made += [phrases_digest(phrases(config, data_dir)), version()]
    if data_dir is not None and {"ljspeech", "recordings"} & {config.name, config.real}:
        made.append(_folder_key(data_dir))
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def _folder_key(data_dir: Path) -> list[object]:
    """Recordings, whose hash is not known in advance, by name, size and time."""
    folders = [(data_dir / at / kind, kind) for at in (".", OFFICIAL) for kind in ENDINGS]
    files = [path for folder in folders for path in by_stem(*folder).values()]
    stats = [(path.name, path.stat()) for path in sorted(files)]
    return [(name, found.st_size, found.st_mtime_ns) for name, found in stats]


def _spoken(config: SpeechConfig, data_dir: Path | None) -> dict[str, list[Spoken]]:
    for voice in config.voices:
        check_voice(voice)
    found = phrases(config, data_dir)
    with progress("speaking (once; then kept)") as part:
        speaker = _Speaker(config, part)
        return {
            "train": speaker.fitting(found["train"], config.utterances, "train"),
            "valid": speaker.fitting(found["valid"], config.held_out, "valid"),
            **speaker.tests(found["test"]),
        }


class _Speaker:
    """Draws voices and rates, speaks, and keeps what fits."""

    def __init__(self, config: SpeechConfig, part: Part) -> None:
        self.config, self.part = config, part

    def fitting(self, texts: list[str], wanted: int, split: str) -> list[Spoken]:
        """The first ``wanted`` that are not too long."""
        jobs, kept = self._jobs(texts, split), []
        while jobs and len(kept) < wanted:
            some = wanted - len(kept) + 16
            made, jobs = self._speak(jobs[:some], split), jobs[some:]
            kept += [each for each in made if each is not None and self._fits(each)]
        return kept[:wanted]

    def tests(self, texts: list[str]) -> dict[str, list[Spoken]]:
        """The same utterances at every tempo, and twice as long: two phrases in one breath."""
        count = self.config.held_out
        jobs = self._jobs(texts[: 2 * count], "test")
        spoken = zip(jobs, self._speak(jobs, "test"), strict=True)
        jobs = [job for job, each in spoken if each is not None and self._fits(each)]
        jobs = jobs[: count + 16]  # some are too fast for their phonemes at the highest tempo
        by_tempo = {}
        for tempo in TEMPI:
            faster = [dataclasses.replace(job, rate=round(job.rate * tempo)) for job in jobs]
            by_tempo[f"test@{tempo:g}"] = self._speak(faster, f"test, tempo {tempo:g}")
        whole = [row for row in zip(*by_tempo.values(), strict=True) if None not in row][:count]
        sets = {name: [row[i] for row in whole] for i, name in enumerate(by_tempo)}
        rest = texts[2 * count : 4 * count]
        pairs = [" ".join(pair) for pair in zip(rest[::2], rest[1::2], strict=False)]
        double = self._speak(self._jobs(pairs, "long"), "test, twice as long")
        return sets | {"test@long": [each for each in double if each is not None]}

    def _jobs(self, texts: Sequence[str], split: str) -> list[Job]:
        generator = np.random.default_rng([SPEECH_RECIPE, *split.encode()])
        voices = generator.choice(list(self.config.voices), len(texts))
        rates = generator.choice(list(self.config.rates), len(texts))
        drawn = zip(texts, voices, rates, strict=True)
        return [Job(text, str(voice), int(rate)) for text, voice, rate in drawn]

    def _speak(self, jobs: Sequence[Job], what: str) -> list[Spoken | None]:
        report = self.part(what, len(jobs))
        spoken = zip(jobs, speak_all(jobs, os.cpu_count() or 1, report), strict=True)
        voices = self.config.voices
        return [_of(self.config, s, voice=voices.index(j.voice), text=j.text) for j, s in spoken]

    def _fits(self, each: Spoken) -> bool:
        return len(each.mel) * self.config.hop <= self.config.longest * SAMPLE_RATE


def _of(config: SpeechConfig, speech: Speech, *, voice: int, text: str) -> Spoken | None:
    """None where there are more phonemes than frames."""
    mel = log_mel(speech.samples, bands=config.bands, hop=config.hop)
    durations = frame_durations(speech.ends, len(mel), config.hop)
    if durations is None:
        return None
    sound = hashlib.sha256(speech.samples.tobytes()).hexdigest()[:16]
    return Spoken(text, voice, speech.phonemes, durations, mel, sound)


def _read(
    config: SpeechConfig, data_dir: Path | None, left_out: dict[str, int]
) -> dict[str, list[Spoken]]:
    """Recordings, split by clip; the test at twice the length has what fits no training piece."""
    wanted = {"train": config.utterances, "valid": config.held_out, "test@1": config.held_out}
    sets: dict[str, list[Spoken]] = {name: [] for name in (*wanted, "test@long")}
    listed = clips(config.name, data_dir)
    with progress("reading (once; then kept)") as part:
        report = part("clips", len(listed))
        for index, clip in enumerate(listed):
            split = {HELD - 1: "test@1", HELD - 2: "valid"}.get(index % HELD, "train")
            if len(sets[split]) < wanted[split]:
                sets[split] += _pieces(config, clip, config.longest, left_out)
            if split == "test@1" and len(sets["test@long"]) < config.held_out:
                long = _pieces(config, clip, 2 * config.longest, {})
                most = config.longest * SAMPLE_RATE / config.hop
                sets["test@long"] += [each for each in long if len(each.mel) > most]
            report(index + 1)
            if all(len(sets[name]) >= count for name, count in wanted.items()):
                break
        report(len(listed))
    return {name: each[: wanted.get(name, config.held_out)] for name, each in sets.items()}


def _real(config: SpeechConfig, data_dir: Path | None, left_out: dict[str, int]) -> list[Spoken]:
    """Pieces of recordings, in the first voice, as many as are held out for testing."""
    pieces = (
        piece
        for clip in clips(config.real, data_dir)
        for piece in _pieces(config, clip, config.longest, left_out)
    )
    return list(itertools.islice(pieces, config.held_out))


def _pieces(
    config: SpeechConfig, clip: Clip, longest: float, left_out: dict[str, int]
) -> list[Spoken]:
    """Of one clip; what is left out of it is added to ``left_out``."""
    cut = clip.cut(longest)
    found = [
        _of(config, piece, voice=0, text=f"{clip.name} {number}")
        for number, piece in enumerate(cut.pieces, start=1)
    ]
    dense = Counter({"pieces with more phonemes than frames": found.count(None)})
    left_out.update(Counter(left_out) + cut.left_out + dense)
    return [each for each in found if each is not None]


def _corpus(config: SpeechConfig, found: Kept, path: Path) -> SpeechCorpus:
    sets = found.sets
    train = sets["train"]
    symbols = tuple(sorted({phoneme for each in train for phoneme in each.phonemes}))
    mels = np.concatenate([each.mel for each in train]).astype(np.float64)
    spoken = [phoneme for each in train for phoneme in each.phonemes]
    lasting = np.concatenate([each.durations for each in train])
    index = {symbol: i for i, symbol in enumerate(symbols, start=1)}
    ids = np.array([index[phoneme] for phoneme in spoken])
    sums = np.bincount(ids, lasting, len(symbols) + 1)
    usual = sums / np.maximum(np.bincount(ids, minlength=len(symbols) + 1), 1)
    usual[UNKNOWN] = lasting.mean()
    return SpeechCorpus(
        config,
        sets,
        symbols,
        mels.mean(0),
        np.maximum(mels.std(0), 1e-3),
        usual,
        _content(sets),
        path,
        found.left_out,
    )


def _content(sets: dict[str, list[Spoken]]) -> str:
    """A hash of what was said, by whom, how it sounded, and how long each phoneme took."""
    found = hashlib.sha256()
    for name, group in sets.items():
        for each in group:
            found.update(json.dumps([name, each.text, each.voice, each.phonemes]).encode())
            found.update(each.durations.astype("<i4").tobytes())
            found.update(each.sound.encode())
    return found.hexdigest()


def _padded(rows: Sequence[np.ndarray]) -> torch.Tensor:
    """Rows of different lengths as one tensor, filled up with zeros."""
    tensors = [torch.from_numpy(np.ascontiguousarray(row)) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
