"""Speech that was spoken or read before, as a file keeps it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...files import kept_content, sealed, write_atomically

LAYOUT = 4  # of the file: raise it when it looks otherwise
LeftOut = dict[str, dict[str, int]]  # by recordings, then by reason


@dataclass(frozen=True)
class Spoken:
    """One utterance: what was said, its phonemes, their durations in frames, log-mel frames.

    ``sound`` is a hash of its samples.
    """

    text: str
    voice: int
    phonemes: tuple[str, ...]
    durations: np.ndarray
    mel: np.ndarray
    sound: str


@dataclass(frozen=True)
class Kept:
    """Sets by name, and how much of which recordings is in none, by reason."""

    sets: dict[str, list[Spoken]]
    left_out: LeftOut


def keep(made: Kept, path: Path) -> None:
    """Write speech as an .npz with a checksum: flat arrays, and as JSON what divides them."""
    every = [each for group in made.sets.values() for each in group]
    said = {
        name: [[e.text, e.voice, e.phonemes, len(e.mel), e.sound] for e in group]
        for name, group in made.sets.items()
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        said=np.array(json.dumps(said)),
        left_out=np.array(json.dumps(made.left_out)),
        durations=np.concatenate([each.durations for each in every]),
        mels=np.concatenate([each.mel for each in every]),
    )
    write_atomically(path, sealed(buffer.getvalue()), "speech")


def kept(path: Path) -> Kept | None:
    """Read speech that was made before; None where there is none, or a damaged one."""
    content = kept_content(path)
    if content is None:
        return None
    with np.load(io.BytesIO(content)) as arrays:
        said, left_out = (json.loads(str(arrays[name])) for name in ("said", "left_out"))
        durations, mels = arrays["durations"], arrays["mels"]
    sets: dict[str, list[Spoken]] = {name: [] for name in said}
    symbol = frame = 0
    for name, group in said.items():
        for text, voice, phonemes, frames, sound in group:
            of = durations[symbol : symbol + len(phonemes)], mels[frame : frame + frames]
            sets[name].append(Spoken(text, voice, tuple(phonemes), *of, sound))
            symbol, frame = symbol + len(phonemes), frame + frames
    return Kept(sets, left_out)
