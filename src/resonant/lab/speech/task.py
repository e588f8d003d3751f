"""Speech as a task: boundaries in milliseconds, phonemes that a classifier hears, distortion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.fft import dct
from torch import Tensor

from ...diagnostics import measure_alignment
from ...files import write_atomically
from ...models.frame_configs import SpeechTransformerConfig
from ...models.speech import SpeechTransformer
from ..alignment.conditions import AS_TRAINED, CONDITIONS, ON_RECORDINGS, WARY, Condition
from ..alignment.frames import DECODED, EVALUATION_BATCH, FrameTask
from ..alignment.utterances import Utterances
from ..kit.config import RunConfig, check_corpus
from .config import SCALES, SpeechConfig
from .corpus import load_speech
from .espeak import SAMPLE_RATE
from .fitting import need_size
from .recognizer import Recognizer, load_recognizer

LENGTH_SHARE = 0.1  # of the loss of the guessed length beside that of frames
TOLERANCES = (20, 50)  # ms
CEPSTRA = 13  # without the first, which is loudness


class SpeechTask(FrameTask):
    """``data.speech``: the test split at every tempo the data have, twice as long, recordings."""

    model: SpeechTransformer

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        assert isinstance(config.data, SpeechConfig)
        assert isinstance(config.model, SpeechTransformerConfig)
        self.corpus = load_speech(config.data, data_dir)
        check_corpus(config, self.corpus.digest, "speech")
        need_size(config.model, "vocabulary", 1 + len(self.corpus.symbols))
        sets = self.corpus.sets
        here = [each for each in CONDITIONS if sets.get(f"test@{each.name}")]
        self.conditions = (*here, *((ON_RECORDINGS, WARY) if "real" in sets else ()))
        self.frame_ms = 1000 * config.data.hop / SAMPLE_RATE
        self._recognizer: Recognizer | None = None
        super().__init__(config, SpeechTransformer, device)

    def batch(self, step: int) -> Utterances:
        train = self.corpus.sets["train"]
        generator = np.random.default_rng([self.config.seed, step])
        rows = generator.choice(len(train), self.config.training.batch_size)
        return self.corpus.batch("train", rows.tolist())

    def batches(self, split: str, condition: Condition = AS_TRAINED) -> list[Utterances]:
        name, most = split, self.config.training.evaluated(split)
        if split == "test":
            real = condition in (ON_RECORDINGS, WARY)
            name = "real" if real else f"test@{condition.name}"
        count = min(most, len(self.corpus.sets[name]))
        starts = range(0, count, EVALUATION_BATCH)
        ends = (min(start + EVALUATION_BATCH, count) for start in starts)
        return [self.corpus.batch(name, range(*of)) for of in zip(starts, ends, strict=True)]

    def _heard(self) -> Utterances:
        count = min(DECODED, len(self.corpus.sets["test@1"]))
        return self.corpus.batch("test@1", range(count))

    def loss_of(self, batch: Utterances) -> Tensor:
        """With the logarithm of the guessed length, which has gradients for its layer alone.

        (They count in the norm that is clipped.)
        """
        guess = self.guess_lengths(batch)
        off = guess.log() - batch.durations.sum(-1).log()
        return super().loss_of(batch) + LENGTH_SHARE * off.square().mean()

    def guess_lengths(self, batch: Utterances) -> Tensor:
        assert batch.voices is not None
        masks = {"symbol_padding": batch.symbol_padding}
        return self.model.lengths(batch.symbols, batch.voices, **masks)

    @property
    def recognizer(self) -> Recognizer:
        """Hears phonemes in frames; trained on the true ones, once for all arms."""
        if self._recognizer is None:
            self._recognizer = load_recognizer(self.corpus)
        return self._recognizer

    def _measured(self, condition: Condition) -> dict[str, float]:
        batches = self.batches("test", condition)
        found = super()._measured(condition) | self.boundaries_within(batches)
        if condition in (ON_RECORDINGS, WARY):
            del found["loss"]  # another voice, which no model has learnt to make
            return found
        truth = [(batch, batch.frames) for batch in batches]
        made = [(batch, self._run(batch).frames) for batch in batches]
        return found | {
            "phoneme_error": self.recognizer.error_rate(made),
            "true_phoneme_error": self.recognizer.error_rate(truth),
            "distortion": self.distortion(made),
        }

    def boundaries_within(self, batches: list[Utterances]) -> dict[str, float]:
        """Shares of boundaries within some milliseconds of the truth."""
        layer, head = self.head
        sums = dict.fromkeys(TOLERANCES, 0.0)
        for batch in batches:
            weights = self.weights(batch)[layer, :, head]
            for tolerance in TOLERANCES:
                frames = tolerance / self.frame_ms
                scores = measure_alignment(weights, batch.durations, tolerance=frames)
                sums[tolerance] += scores.within.sum().item()
        count = sum(len(batch.symbols) for batch in batches)
        return {f"within_{tolerance}": each / count for tolerance, each in sums.items()}

    def distortion(self, made: list[tuple[Utterances, Tensor]]) -> float:
        """Mel-cepstral distortion in dB, mean over frames.

        ``10 / ln 10 sqrt(2 sum_k (c_k - c'_k)^2)``, k = 1 to 13, with ``c_k`` the mean over bands b
        of ``ln power_b cos(pi k (b + 1/2) / bands)`` (Kubichek 1993): the root mean square
        difference of smoothed spectra, loudness left out. No warping in time.
        """
        total, count = 0.0, 0
        for batch, frames in made:
            real = ~batch.frame_padding
            off = (frames - batch.frames)[real].double().numpy() * self.corpus.spread
            transformed = np.asarray(dct(off, type=2, axis=1)) / (2 * off.shape[1])
            cepstra = transformed[:, 1 : 1 + CEPSTRA]
            each = 10.0 / np.log(10.0) * np.sqrt(2.0 * np.square(cepstra).sum(1))
            total, count = total + each.sum(), count + len(each)
        return float(total / count)

    def _free(self) -> dict[str, float]:
        """How good the guessed length is, and what is heard in speech of that length."""
        batch = self._heard()
        true = batch.durations.sum(-1)
        guess = self.guess_lengths(batch)
        assert batch.voices is not None
        padding = batch.symbol_padding
        frames, lengths = self.model.speak(batch.symbols, batch.voices, symbol_padding=padding)
        return super()._free() | {
            "guessed_length": (guess / true - 1.0).abs().mean().item(),
            "spoken_phoneme_error": self.recognizer.error_rate([(batch, frames)], lengths),
        }

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"frame_ms": self.frame_ms}

    def save(self, directory: Path) -> None:
        """The model, and what its symbols and frames stand for."""
        super().save(directory)
        scales = {"mean": self.corpus.mean.tolist(), "spread": self.corpus.spread.tolist()}
        data = self.corpus.config
        said = {
            "symbols": self.corpus.symbols,
            "voices": data.voices if data.name == "espeak" else [data.name],
            "rates": data.rates,
            "hop": data.hop,
            **scales,
        }
        content = json.dumps(said, indent=1, ensure_ascii=False).encode()
        write_atomically(directory / SCALES, content, "speech-scales")

    def _picture(self, batch: Utterances) -> dict[str, np.ndarray]:
        """Also the phonemes, and log-mel frames made and true."""
        kept = super()._picture(batch)
        names = ("?", *self.corpus.symbols)
        count, frames = len(kept["durations"]), len(kept["weights"])
        kept["phonemes"] = np.array([names[i] for i in batch.symbols[0, :count].tolist()])
        made = self._run(batch).frames[0, :frames].numpy()
        for name, each in (("made", made), ("true", batch.frames[0, :frames].numpy())):
            kept[name] = self.corpus.denormalized(each).astype(np.float16)
        return kept
