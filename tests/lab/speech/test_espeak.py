"""Speech repeats itself bit by bit, says where its phonemes end, and refuses in plain words."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from resonant.errors import UserError
from resonant.lab.speech import espeak
from resonant.lab.speech.espeak import (
    PAUSE,
    SAMPLE_RATE,
    Job,
    check_voice,
    speak,
    speak_all,
    version,
)


def test_the_same_job_is_the_same_bytes_whatever_came_before() -> None:
    first = speak(Job("we see my old dog"))
    speak(Job("cold wind"))
    again = speak(Job("we see my old dog"))
    assert first.samples.tobytes() == again.samples.tobytes()
    assert first.phonemes == again.phonemes
    assert np.array_equal(first.ends, again.ends)


def test_breath_does_not_depend_on_the_time_of_day() -> None:
    """Left alone, eSpeak NG seeds its noise with the second it is asked in."""
    job = Job("in the deep nook", "en-us+f3", 96)
    first = speak(job)
    time.sleep(1.1)
    assert speak(job).samples.tobytes() == first.samples.tobytes()


def test_phonemes_tile_the_samples() -> None:
    spoken = speak(Job("go home, old bird"))
    assert spoken.phonemes[0] == "ɡ"
    assert PAUSE in spoken.phonemes[1:-1]  # at the comma; that at the end is too short to count
    assert (np.diff(spoken.ends, prepend=0) > 0).all()
    assert spoken.ends[-1] == len(spoken.samples)
    assert spoken.seconds == len(spoken.samples) / SAMPLE_RATE


def test_the_pause_is_where_it_is_silent() -> None:
    spoken = speak(Job("go home, old bird"))
    index = spoken.phonemes.index(PAUSE)
    start, end = spoken.ends[index - 1], spoken.ends[index]
    loud = np.abs(spoken.samples.astype(float))
    assert end - start > 0.025 * SAMPLE_RATE
    assert loud[start + 500 : end - 500].mean() < 0.02 * loud.mean()


def test_rates_change_lengths_and_voices_the_sound() -> None:
    slow, fast = (
        speak(Job("we see my old dog", rate=100)),
        speak(Job("we see my old dog", rate=250)),
    )
    assert slow.phonemes == fast.phonemes
    assert 2.0 < slow.seconds / fast.seconds < 3.0
    other = speak(Job("we see my old dog", "en-us+f3"))
    assert other.phonemes == slow.phonemes
    assert other.samples.tobytes() != speak(Job("we see my old dog")).samples.tobytes()


def test_many_come_back_in_order() -> None:
    jobs = [Job(text) for text in ("dog", "old dog", "my old dog", "see my old dog")]
    seen: list[int] = []
    spoken = speak_all(jobs, 2, seen.append)
    assert seen == [1, 2, 3, 4]
    assert [len(each.phonemes) for each in spoken] == sorted(len(e.phonemes) for e in spoken)
    assert spoken[1].samples.tobytes() == speak(jobs[1]).samples.tobytes()


@pytest.mark.parametrize("text", ["...", "", "?!"])
def test_a_text_without_phonemes(text: str) -> None:
    with pytest.raises(UserError, match="has no phonemes that the voice 'en-us' could speak"):
        speak(Job(text))


@pytest.mark.parametrize(
    ("voice", "says"),
    [
        ("en-gb", "no voice 'en-gb'; use 'en'"),
        ("en-uz", "no voice 'en-uz'; did you mean 'en-US'"),
        ("en-us+f33", "no variant 'f33' of a voice; did you mean 'f3'"),
        ("nowhere+f3", "no voice 'nowhere'"),
    ],
)
def test_unknown_voices(voice: str, says: str) -> None:
    """eSpeak NG itself goes on in the voice before, and takes any variant for none."""
    with pytest.raises(UserError, match=says.replace("+", r"\+")):
        check_voice(voice)
    check_voice("en-us+f3")
    if "+" not in voice:
        with pytest.raises(UserError, match="no voice"):
            speak(Job("old dog", voice))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak.library_paths.cache_clear()
    try:
        with pytest.raises(UserError, match=r"pip install 'resonant\[speech\]'"):
            speak(Job("old dog"))
    finally:
        monkeypatch.undo()
        espeak.library_paths.cache_clear()


def test_a_library_that_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library, data = espeak.library_paths()
    monkeypatch.setattr(espeak, "library_paths", lambda: (tmp_path / "none.so", data))
    with pytest.raises(UserError, match="could not be asked"):
        speak(Job("old dog"))
    monkeypatch.setattr(espeak, "library_paths", lambda: (library, tmp_path))
    with pytest.raises(UserError, match="did not start with its data"):
        speak(Job("old dog"))


def test_the_version_is_that_of_the_library() -> None:
    assert version().startswith("1.")
