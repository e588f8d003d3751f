"""Spectrograms lie where they should, sound comes back, and broken files are refused."""

import io
import sys
import wave

import numpy as np
import pytest

from resonant.errors import UserError
from resonant.lab.speech.espeak import SAMPLE_RATE, Job, speak
from resonant.lab.speech.mel import FLOOR, log_mel, read_wav, sound, wav_bytes


@pytest.mark.parametrize(
    ("bands", "hop"), [pytest.param(40, 512, marks=pytest.mark.slow), (80, 256), (40, 300)]
)
def test_a_tone_lies_in_its_frames_and_its_band(bands: int, hop: int) -> None:
    """A tone from frame 20 to 30: half-way up at the edges, and in the band of its frequency."""
    librosa = pytest.importorskip("librosa")
    samples = np.zeros(50 * hop)
    time = np.arange(10 * hop) / SAMPLE_RATE
    samples[20 * hop : 30 * hop] = 0.5 * np.sin(2 * np.pi * 1000.0 * time)
    mel = log_mel(samples, bands=bands, hop=hop)
    assert mel.shape == (50, bands)
    band = int(mel[25].argmax())
    edges = librosa.mel_frequencies(bands + 2, fmin=0.0, fmax=8000.0)
    assert edges[band] < 1000.0 < edges[band + 2]
    # The window reaches half its length beyond a frame's middle.
    reach = -(-512 // hop)
    assert np.allclose(mel[: 20 - reach], np.log(FLOOR))
    assert np.allclose(mel[30 + reach :], np.log(FLOOR))
    assert (mel[20:30, band] > mel[25, band] - 1.5).all()


def test_the_number_of_frames_is_that_of_hops() -> None:
    for length, frames in ((1, 1), (512 * 3 + 200, 3), (512 * 3 + 300, 4)):
        assert len(log_mel(np.zeros(length), bands=40, hop=512)) == frames
    integers = (np.ones(4096) * 16384).astype(np.int16)
    same = log_mel(np.full(4096, 0.5), bands=40, hop=512)
    assert np.array_equal(log_mel(integers, bands=40, hop=512), same)


def test_sound_has_the_spectrogram_it_was_made_from() -> None:
    spoken = speak(Job("we see my old dog"))
    mel = log_mel(spoken.samples, bands=80, hop=256)
    made = sound(mel, hop=256)
    assert len(made) == len(mel) * 256
    assert np.array_equal(made, sound(mel, hop=256))
    off = log_mel(made, bands=80, hop=256) - mel
    assert 10.0 / np.log(10.0) * np.abs(off).mean() < 2.0  # dB
    shifted = np.roll(made, 3 * 256)
    assert np.abs(log_mel(shifted, bands=80, hop=256) - mel).mean() > 2 * np.abs(off).mean()


def test_wav_there_and_back() -> None:
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 2.0])
    back = read_wav(wav_bytes(samples), "x.wav")
    assert back.tolist() == [0, 16384, -16384, 32767, -32767, 32767]
    assert read_wav(wav_bytes(back), "x.wav").tolist() == back.tolist()


def written(rate: int = SAMPLE_RATE, channels: int = 1, width: int = 2, frames: int = 100) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(b"\0" * (frames * channels * width))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "x.wav is no WAV file"),
        (b"not a wav file at all, but text", "x.wav is no WAV file"),
        (written()[:30], "x.wav is no WAV file"),
        (written()[:-40], "x.wav is cut short"),
        (written(frames=0), "x.wav says that it holds no samples"),
        (written(rate=16_000), "x.wav is WAV of 16000 Hz, 1 channels and PCM_16"),
        (written(channels=2), "2 channels"),
        (written(width=1), "PCM_U8"),
    ],
)
def test_broken_wav_files(content: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_wav(content, "x.wav")


@pytest.mark.parametrize("promised", [0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFF000])
def test_a_wav_from_a_pipe_is_read_to_its_end(promised: int) -> None:
    """The header is written before the length is known; three programs promise three lengths."""
    samples = np.arange(1, 101, dtype=np.int16)
    content = bytearray(wav_bytes(samples))
    at = content.index(b"data") + 4
    content[at : at + 4] = promised.to_bytes(4, "little")
    content[4:8] = min(promised + 36, 0xFFFFFFFF).to_bytes(4, "little")
    assert read_wav(bytes(content), "x.wav").tolist() == samples.tolist()


def test_a_wav_that_promises_nothing_is_named() -> None:
    content = bytearray(wav_bytes(np.ones(100, dtype=np.int16)))
    at = content.index(b"data") + 4
    content[at : at + 4] = bytes(4)
    with pytest.raises(UserError, match=r"x.wav says that it holds no samples; .* ffmpeg -i IN"):
        read_wav(bytes(content), "x.wav")


def test_an_extensible_header_and_chunks_between_are_read() -> None:
    """As ffmpeg and Audacity write them: WAVE_FORMAT_EXTENSIBLE, and a LIST before the samples."""
    samples = np.arange(1, 101, dtype=np.int16)
    plain = wav_bytes(samples)
    listed = plain[:36] + b"LIST" + (5).to_bytes(4, "little") + b"abcde\0" + plain[36:]
    listed = listed[:4] + (len(listed) - 8).to_bytes(4, "little") + listed[8:]
    assert read_wav(listed, "x.wav").tolist() == samples.tolist()
    kind = bytes.fromhex("feff") + plain[22:36] + (22).to_bytes(2, "little")
    kind += (16).to_bytes(2, "little") + (4).to_bytes(4, "little")
    kind += bytes.fromhex("0100000000001000800000aa00389b71")
    wide = b"WAVEfmt " + len(kind).to_bytes(4, "little") + kind + plain[36:]
    wide = b"RIFF" + len(wide).to_bytes(4, "little") + wide
    assert read_wav(wide, "x.wav").tolist() == samples.tolist()
    with pytest.raises(UserError, match="is cut short"):
        read_wav(wide[:-7], "x.wav")


def test_without_librosa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "librosa.feature.inverse", None)
    with pytest.raises(UserError, match="speech needs librosa, which is not installed"):
        sound(np.zeros((4, 40), dtype=np.float32), hop=512)
