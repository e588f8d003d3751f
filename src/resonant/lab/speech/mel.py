"""Mel spectrograms, and sound out of them."""

from __future__ import annotations

import importlib
import io
import wave
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from .espeak import SAMPLE_RATE

WINDOW = 1024  # samples of a Hann window and of its Fourier transform
HIGHEST = 8000.0  # Hz
CONVERT = "fetch it again, or convert it: ffmpeg -i IN -ar 22050 -ac 1 -sample_fmt s16 OUT.wav"
PIPE = 0x7FFF0000  # bytes; a header that promises so many was written before the samples were
FLOOR = 1e-3  # of a band's power, samples being in [-1, 1]: some 70 dB below a loud vowel


def log_mel(samples: np.ndarray, *, bands: int, hop: int) -> np.ndarray:
    """Natural logarithm of the power in mel bands, (frame, band).

    Frame t looks at samples around ``(t + 1/2) hop``; there are as many frames as hops, rounded.
    Bands by Slaney's scale, as librosa has them, from 0 to 8 kHz.
    """
    scale = 32768.0 if samples.dtype == np.int16 else 1.0
    signal = torch.from_numpy(samples.astype(np.float64) / scale)
    frames = max(1, round(len(signal) / hop))
    before = WINDOW // 2 - hop // 2
    after = max(0, (frames - 1) * hop + WINDOW - before - len(signal))
    signal = torch.nn.functional.pad(signal, (before, after))
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    spectrum = torch.stft(signal, WINDOW, hop, window=window, center=False, return_complex=True)
    power = spectrum[:, :frames].abs().square()
    return (_filters(bands).double() @ power).clamp(min=FLOOR).log().T.float().numpy()


def sound(mel: np.ndarray, *, hop: int) -> np.ndarray:
    """Samples whose spectrogram is near ``mel``, by Griffin and Lim (1984), 60 rounds.

    Phases are invented, the same ones each time. float32 in [-1, 1].
    """
    librosa = _librosa()
    power = np.exp(mel.astype(np.float64)).T
    options: dict[str, Any] = {"sr": SAMPLE_RATE, "n_fft": WINDOW, "fmax": HIGHEST}
    magnitude = librosa.feature.inverse.mel_to_stft(power, **options)
    options = {"hop_length": hop, "win_length": WINDOW, "n_fft": WINDOW, "random_state": 0}
    # librosa's first frame is around sample 0, ours around half a hop.
    options["length"] = len(mel) * hop - hop // 2
    made = librosa.griffinlim(magnitude, n_iter=60, **options)
    made = np.concatenate([np.zeros(hop // 2), made])
    return (made / max(1.0, np.abs(made).max())).astype(np.float32)


def wav_bytes(samples: np.ndarray) -> bytes:
    """A WAV file, 16 bit, one channel, of samples in [-1, 1] or 16-bit integers."""
    if samples.dtype != np.int16:
        samples = np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def read_wav(content: bytes, name: str) -> np.ndarray:
    """Read the samples of a WAV file as 16-bit integers.

    A file that was written to a pipe promises no length, or the longest there is; it is read to
    its end.

    Raises ``UserError`` for what is no WAV file, is cut short, or is not 22,050 Hz, one channel, 16
    bit.
    """
    soundfile = _installed("soundfile")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            kind = (file.format, file.samplerate, file.channels, file.subtype)
            samples = file.read(dtype="int16")
    except soundfile.LibsndfileError as error:
        raise UserError(f"{name} is no WAV file ({error.error_string}); {CONVERT}") from error
    if kind[0] not in ("WAV", "WAVEX") or kind[1:] != (SAMPLE_RATE, 1, "PCM_16"):
        raise UserError(
            f"{name} is {kind[0]} of {kind[1]} Hz, {kind[2]} channels and {kind[3]}, but WAV of "
            f"{SAMPLE_RATE} Hz, 1 channel and PCM_16 is needed; {CONVERT}"
        )
    promised, there = _data_bytes(content)
    if there < promised < PIPE:
        raise UserError(f"{name} is cut short ({there} of {promised} bytes); fetch it again")
    if not len(samples):
        raise UserError(f"{name} says that it holds no samples; {CONVERT}")
    return samples


def _data_bytes(content: bytes) -> tuple[int, int]:
    """Find the bytes of samples that a RIFF file promises, and those that follow."""
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"data":
            return size, len(content) - at - 8
        at += 8 + size + size % 2
    return 0, 0


@cache
def _filters(bands: int) -> Tensor:
    """(band, frequency)."""
    librosa = _librosa()
    made = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=bands, fmax=HIGHEST)
    return torch.from_numpy(made)


def _librosa() -> Any:
    _installed("librosa.feature.inverse")
    _installed("librosa.filters")
    return _installed("librosa")


def _installed(module: str) -> Any:
    """Import a module of the extra "speech"."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"speech needs {module.partition('.')[0]}, which is not installed; pip install "
            "'resonant[speech]'"
        ) from error
