"""One utterance by eSpeak NG, in a process of its own: ``python -I -S synthesizer.py``.

eSpeak NG carries state from one utterance to the next, and the noise of breathy voices starts from
the time of day: only a fresh process with a seed repeats itself to the last bit. The library is
GPL-3.0-or-later: it is loaded here, at run time, and nowhere else.

Reads a job as JSON (library, data, voice, rate, text) and answers with a line of JSON (version,
rate of samples, events: phoneme and first sample, or an error), then samples as 16-bit integers.
Without a text it answers with the names of all voices by language.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from typing import Any

RETRIEVAL = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples come to a callback, nothing is played
PHONEMES_AS_IPA = 0x0001 | 0x0002
DO_NOT_EXIT = 0x8000
RATE = 1  # espeakRATE, words per minute
UTF8 = 1
SEED = 1
PHONEME = 7  # espeakEVENT_PHONEME


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("text", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def main() -> None:
    """Answer one job."""
    job = json.loads(sys.stdin.buffer.read())
    library = ctypes.CDLL(job["library"])
    rate = library.espeak_Initialize(
        RETRIEVAL, 0, job["data"].encode(), PHONEMES_AS_IPA | DO_NOT_EXIT
    )
    library.espeak_Info.restype = ctypes.c_char_p
    answer: dict[str, Any] = {"version": library.espeak_Info(None).decode(), "rate": rate}
    samples = b""
    if rate <= 0:
        answer["error"] = "start"
    elif "text" not in job:
        answer["voices"] = dict(_voices(library))
    elif library.espeak_SetVoiceByName(job["voice"].encode()) != 0:
        answer["error"] = "voice"  # unknown: the voice before it would go on speaking
    else:
        library.espeak_ng_SetRandSeed(ctypes.c_long(SEED))  # it starts from the time of day
        library.espeak_SetParameter(RATE, job["rate"], 0)
        samples, answer["events"] = _speak(library, job["text"])
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + samples)


def _voices(library: Any) -> Iterator[tuple[str, str]]:
    """Languages, as in en-gb, and the names that their voices answer to, as in en."""
    library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
    listed = library.espeak_ListVoices(None)
    index = 0
    while listed[index]:
        voice = listed[index].contents
        # A priority byte, then the language; a folder, then the name.
        yield voice.languages[1:].decode(), voice.identifier.decode().rpartition("/")[2]
        index += 1


def _speak(library: Any, text: str) -> tuple[bytes, list[tuple[str, int]]]:
    parts: list[bytes] = []
    events: list[tuple[str, int]] = []

    def collect(wave: Any, count: int, event: Any) -> int:
        if wave and count > 0:
            parts.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while event[index].type != 0:
            if event[index].type == PHONEME:
                address = ctypes.addressof(event[index]) + _Event.id.offset
                name = ctypes.string_at(address, 8).split(b"\0")[0]
                events.append((name.decode("utf-8", errors="ignore"), event[index].sample))
            index += 1
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    content = text.encode()
    library.espeak_Synth(content, len(content) + 1, 0, 1, 0, UTF8, None, None)
    library.espeak_Synchronize()
    return b"".join(parts), events


if __name__ == "__main__":
    main()
