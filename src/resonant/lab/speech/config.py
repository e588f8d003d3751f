"""Speech as a configuration, readable without numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..kit.config import Data

SCALES = "speech.json"  # in a run's folder: what its symbols and frames stand for
TEXTS = ("shakespeare", "stdlib", "file")
RECORDED = ("ljspeech", "ljspeech-sample", "recordings")
REAL = ("none", *RECORDED)


@dataclass(frozen=True)
class SpeechConfig(Data):
    """Speech whose phonemes have known ends: eSpeak NG, which says where they are, or recordings.

    Args:
        name: espeak, or aligned recordings: ljspeech, ljspeech-sample, recordings (yours)
        text: what is spoken, shakespeare, stdlib (its comments) or file (yours; needs path; espeak)
        path: the text file, for text file
        voices: of eSpeak NG, as in en-us, en-us+f3; each utterance has one of them
        rates: words per minute; each utterance has one of them
        utterances: of the training split
        held_out: utterances of the validation split, and of the test split
        longest: seconds of an utterance, at most (one test set has two phrases in a breath)
        bands: numbers per frame, the bands of the mel spectrogram
        hop: samples from frame to frame, at 22,050 a second
        real: recordings that boundaries are also tested on, none or a name of such
    """

    NAMES: ClassVar[tuple[str, ...]] = ("espeak", *RECORDED)
    name: str = "espeak"
    text: str = "shakespeare"
    path: str | None = None
    voices: tuple[str, ...] = ("en-us", "en-us+f3", "en+m3")
    rates: tuple[int, ...] = (160, 175, 190)
    utterances: int = 2000
    held_out: int = 128
    longest: float = 1.5
    bands: int = 40
    hop: int = 512
    real: str = "none"

    def __post_init__(self) -> None:
        choices = (("name", self.NAMES), ("text", TEXTS), ("real", REAL))
        for field, known in choices:
            if getattr(self, field) not in known:
                raise ValueError(
                    f"data.{field} is one of {', '.join(known)}, not {getattr(self, field)!r}"
                )
        for field, least in (("utterances", 1), ("held_out", 1), ("bands", 2), ("hop", 64)):
            if getattr(self, field) < least:
                raise ValueError(
                    f"data.{field} must be at least {least}; it is {getattr(self, field)}"
                )
        if self.bands > 120:
            raise ValueError(
                f"data.bands must be at most 120 (more have no frequency of their own); it is "
                f"{self.bands}"
            )
        if self.hop > 1024:
            raise ValueError(f"data.hop must be at most the window, 1024 samples; it is {self.hop}")
        if not 0.5 <= self.longest <= 20:
            raise ValueError(f"data.longest is 0.5 to 20 seconds; it is {self.longest}")
        if not self.voices or not self.rates:
            raise ValueError("data.voices and data.rates must name at least one each")
        if not all(134 <= rate <= 280 for rate in self.rates):
            raise ValueError(
                "data.rates are 134 to 280 words per minute (tests are spoken at 0.6 to 1.6 times "
                f"them, and eSpeak NG goes from 80 to 450); they are {self.rates}"
            )
        if (self.text == "file") != (self.path is not None):
            raise ValueError("data.text file and data.path belong together; give both or neither")

    def trained_on(self) -> SpeechConfig:
        """Without the recordings that boundaries are also tested on."""
        return replace(self, real="none")
