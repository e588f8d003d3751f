"""Speech from eSpeak NG with the ends of its phonemes, a fresh process for every utterance.

eSpeak NG is GPL-3.0-or-later. The optional extra ``resonant[speech]`` brings it; it is loaded at
run time by a process of its own (``synthesizer.py``) and is no part of this library.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, nearest

SAMPLE_RATE = 22_050
PAUSE = "_"
SHORTEST_PAUSE = 0.025  # seconds; what is shorter belongs to the phoneme before
SECONDS = 60.0  # after which a process is said to hang
STRESS_MARKS = "ˈˌ"
_LANGUAGE = re.compile(r"\(.*\)")  # eSpeak NG says that it changes the language


@dataclass(frozen=True)
class Job:
    """What to say, in which voice, at how many words per minute."""

    text: str
    voice: str = "en-us"
    rate: int = 175


@dataclass(frozen=True)
class Speech:
    """16-bit samples (sample,) at ``SAMPLE_RATE``; phonemes in IPA, and the sample each ends at."""

    samples: np.ndarray
    phonemes: tuple[str, ...]
    ends: np.ndarray

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / SAMPLE_RATE


def speak(job: Job) -> Speech:
    """Say it. The same job gives the same samples, bit for bit.

    Raises ``UserError`` without the library, for an unknown voice, and for a text without phonemes.
    """
    if not any(character.isalnum() for character in job.text):
        raise _silent(job)  # it would read out the names of the signs
    answer, samples = _ask({"voice": job.voice, "rate": job.rate, "text": job.text})
    if answer.get("error") == "voice":
        raise _unknown(job.voice)
    spoken = np.frombuffer(samples, dtype=np.int16)
    phonemes, ends = _spans(answer["events"], len(spoken))
    if not set(phonemes) - {PAUSE}:
        raise _silent(job)
    return Speech(spoken, tuple(phonemes), np.array(ends, dtype=np.int64))


def _silent(job: Job) -> UserError:
    return UserError(
        f"the text {job.text[:60]!r} has no phonemes that the voice {job.voice!r} could speak; "
        "give words"
    )


def unstressed(phoneme: str) -> str:
    """The phoneme without stress marks."""
    return phoneme.lstrip(STRESS_MARKS)


def speak_all(
    jobs: Sequence[Job], workers: int, report: Callable[[int], None] | None = None
) -> list[Speech]:
    """``speak`` each, ``workers`` at a time; ``report(n)`` after each, n of them being done."""
    spoken: list[Speech] = []
    with ThreadPoolExecutor(workers) as pool:
        for each in pool.map(speak, jobs):
            spoken.append(each)
            if report is not None:
                report(len(spoken))
    return spoken


def check_voice(voice: str) -> None:
    """Raise ``UserError``, naming the nearest, for a voice that eSpeak NG does not have.

    It would take no offence at an unknown variant (``en-us+f33``) and speak without one.
    """
    base, plus, variant = voice.partition("+")
    answer, _ = _ask({"voice": base, "rate": 175, "text": "a"})
    if answer.get("error") == "voice":
        raise _unknown(base)
    known = sorted(path.name for path in (library_paths()[1] / "voices" / "!v").iterdir())
    if plus and variant not in known:
        raise UserError(
            f"eSpeak NG has no variant {variant!r} of a voice; {nearest(variant, known)}"
        )


@cache
def version() -> str:
    """The version of eSpeak NG; raises ``UserError`` without the library."""
    return _ask({})[0]["version"]


def _unknown(voice: str) -> UserError:
    known = _ask({})[0]["voices"]
    hint = f"use {known[voice]!r}" if voice in known else nearest(voice, known.values())
    return UserError(f"eSpeak NG has no voice {voice!r}; {hint}")


def _spans(events: list[list[Any]], length: int) -> tuple[list[str], list[int]]:
    """Phonemes and their ends in samples: none empty, pauses of some length only."""
    phonemes: list[str] = []
    ends: list[int] = []
    starts = [start for _, start in events[1:]] + [length]
    for (name, start), end in zip(events, starts, strict=True):
        name = name or PAUSE
        silent = name == PAUSE and end - start < SHORTEST_PAUSE * SAMPLE_RATE
        if end <= start or _LANGUAGE.fullmatch(name):
            continue
        if phonemes and (silent or name == phonemes[-1] == PAUSE):
            ends[-1] = end
        elif not silent:
            phonemes.append(name)
            ends.append(end)
    if ends:
        ends[-1] = length
    return phonemes, ends


def _ask(question: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What a fresh process answers, and its samples."""
    library, data = library_paths()
    script = Path(__file__).with_name("synthesizer.py")
    job = json.dumps({"library": str(library), "data": str(data), **question})
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(script)],
            input=job.encode(),
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise UserError(
            f"eSpeak NG could not be asked ({type(error).__name__}); install the extra again: pip "
            "install 'resonant[speech]'"
        ) from error
    head, _, samples = done.stdout.partition(b"\n")
    answer = json.loads(head)
    if answer.get("error") == "start" or answer["rate"] != SAMPLE_RATE:
        raise UserError(
            f"eSpeak NG at {library} did not start with its data in {data} (it answered a rate of "
            f"{answer['rate']}); install the extra again: pip install 'resonant[speech]'"
        )
    return answer, samples


@cache
def library_paths() -> tuple[Path, Path]:
    """Find the library and its data."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError(
            "speech needs eSpeak NG, which is not installed (an extra of its own, being GPL); pip "
            "install 'resonant[speech]'"
        ) from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
