"""A small classifier of frames, to hear what models of speech say; trained on true frames alone."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import filelock
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ...files import sealed, unsealed, write_atomically
from ..alignment.utterances import Utterances
from ..kit.progress import progress
from .corpus import SpeechCorpus
from .espeak import PAUSE, unstressed

RECIPE = 1  # raise it when the recognizer of the same speech changes
WIDTH = 128
STEPS = 800
BATCH = 32
PENALTIES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0)  # of going to another phoneme, in nats
NOISE = 0.1  # added to frames in training, in spreads: models' frames are not exact either


class Recognizer(nn.Module):
    """Three convolutions over frames, then the likeliest path that pays ``penalty`` for a change.

    Phonemes are those of the corpus without their stress marks. ``penalty`` is the one with the
    least error on the true frames of the validation split.
    """

    def __init__(self, bands: int, phonemes: Sequence[str]) -> None:
        super().__init__()
        self.phonemes = sorted({unstressed(phoneme) for phoneme in phonemes})
        self.of_symbol = [0, *(1 + self.phonemes.index(unstressed(p)) for p in phonemes)]
        sizes = itertools.pairwise([bands, WIDTH, WIDTH, WIDTH])
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, padding="same") for a, b in sizes)
        self.readout = nn.Linear(WIDTH, 1 + len(self.phonemes))
        self.penalty = 0.0

    def forward(self, frames: Tensor, padding: Tensor) -> Tensor:
        """Log-probabilities of phonemes, (batch, frame, phoneme); padding is silenced."""
        real = ~padding.unsqueeze(1)
        x = frames.transpose(1, 2) * real
        for layer in self.layers:
            x = F.gelu(layer(x)) * real
        return self.readout(x.transpose(1, 2)).log_softmax(-1)

    @torch.no_grad()
    def hear(self, frames: Tensor, lengths: Tensor) -> list[list[int]]:
        """Phonemes heard in each utterance, pauses left out."""
        padding = torch.arange(frames.shape[1]) >= lengths.unsqueeze(1)
        scores = self(frames.float(), padding)
        paths = likeliest_paths(scores, self.penalty)
        rows = zip(paths.tolist(), lengths.tolist(), strict=True)
        return [self.collapse(path[:length]) for path, length in rows]

    def error_rate(
        self, made: list[tuple[Utterances, Tensor]], lengths: Tensor | None = None
    ) -> float:
        """Substitutions, deletions and insertions per true phoneme, what is heard against it.

        ``made`` are batches and the frames made of them; ``lengths`` those of the frames (the true
        ones if left out).
        """
        wrong = count = 0
        for batch, frames in made:
            of = batch.durations.sum(-1) if lengths is None else lengths
            for row, heard in enumerate(self.hear(frames, of)):
                symbols = batch.symbols[row][~batch.symbol_padding[row]]
                true = self.collapse([self.of_symbol[i] for i in symbols.tolist()])
                wrong, count = wrong + edit_distance(heard, true), count + len(true)
        return wrong / count

    def collapse(self, path: Sequence[int]) -> list[int]:
        """Each run once, without pauses."""
        pause = 1 + self.phonemes.index(PAUSE) if PAUSE in self.phonemes else -1
        return [phoneme for phoneme, _ in itertools.groupby(path) if phoneme != pause]


def likeliest_paths(scores: Tensor, penalty: float) -> Tensor:
    """(batch, frame): the classes of the largest sum of scores less ``penalty`` per change."""
    best, back = scores[:, 0], []
    stay = torch.arange(scores.shape[2])
    for frame in range(1, scores.shape[1]):
        top, index = best.max(-1, keepdim=True)
        changes = top - penalty > best
        back.append(torch.where(changes, index, stay))
        best = torch.where(changes, top - penalty, best) + scores[:, frame]
    path = [best.argmax(-1)]
    for each in reversed(back):
        path.append(each.gather(1, path[-1].unsqueeze(1)).squeeze(1))
    return torch.stack(path[::-1], dim=1)


def edit_distance(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Levenshtein's: insertions, deletions and substitutions from one to the other."""
    row = np.arange(len(theirs) + 1)
    target = np.asarray(theirs)
    for index, each in enumerate(ours, start=1):
        cheapest = np.minimum(row[1:] + 1, row[:-1] + (target != each))
        # An insertion costs one more than the cell before: a running minimum without that.
        steps = np.concatenate([[index], cheapest]) - np.arange(len(row))
        row = np.minimum.accumulate(steps) + np.arange(len(row))
    return int(row[-1])


def load_recognizer(corpus: SpeechCorpus) -> Recognizer:
    """The recognizer of a corpus: from the cache folder, or trained and kept there."""
    path = corpus.path.with_name(f"{corpus.path.stem}-recognizer-{RECIPE}.pt")
    recognizer = Recognizer(corpus.config.bands, corpus.symbols)
    with filelock.FileLock(path.with_suffix(".lock")):
        if not _read(recognizer, path):
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # as in workers: the same sums in the same order
            try:
                _train(recognizer, corpus)
            finally:
                torch.set_num_threads(threads)
            buffer = io.BytesIO()
            torch.save([recognizer.state_dict(), recognizer.penalty], buffer)
            write_atomically(path, sealed(buffer.getvalue()), "recognizer")
    return recognizer.eval()


def _read(recognizer: Recognizer, path: Path) -> bool:
    """Fill the recognizer from its file; False where there is none, or a damaged one."""
    if not path.is_file():
        return False
    try:
        content = io.BytesIO(unsealed(path))
        weights, recognizer.penalty = torch.load(content, weights_only=True)
        recognizer.load_state_dict(weights)
    except (UserError, RuntimeError, TypeError, ValueError):
        return False
    return True


def _train(recognizer: Recognizer, corpus: SpeechCorpus) -> None:
    generator = np.random.default_rng(RECIPE)
    noise = torch.Generator().manual_seed(RECIPE)
    for parameter in recognizer.parameters():  # a start that depends on nothing else
        if parameter.dim() > 1:
            bound = parameter[0].numel() ** -0.5
            nn.init.uniform_(parameter, -bound, bound, generator=noise)
        else:
            nn.init.zeros_(parameter)
    optimizer = torch.optim.AdamW(recognizer.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    of_symbol = torch.tensor(recognizer.of_symbol)
    with torch.enable_grad(), progress("teaching a recognizer (once; then kept)") as part:
        report = part("steps", STEPS)
        for step in range(STEPS):
            rows = generator.choice(len(corpus.sets["train"]), BATCH).tolist()
            batch = corpus.batch("train", rows)
            frames = batch.frames + NOISE * torch.randn(batch.frames.shape, generator=noise)
            scores = recognizer(frames, batch.frame_padding)
            true = _by_frame(of_symbol[batch.symbols], batch)
            F.nll_loss(scores.flatten(0, 1), true.flatten(), ignore_index=-1).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            report(step + 1)
    valid = corpus.batch("valid", range(len(corpus.sets["valid"])))
    errors = {}
    for recognizer.penalty in PENALTIES:
        errors[recognizer.penalty] = recognizer.error_rate([(valid, valid.frames)])
    recognizer.penalty = min(errors, key=errors.__getitem__)


def _by_frame(phonemes: Tensor, batch: Utterances) -> Tensor:
    """(batch, frame) the phoneme of each frame, -1 where there is padding."""
    frames = torch.arange(batch.frames.shape[1])
    index = (frames.unsqueeze(-1) >= batch.durations.cumsum(1).unsqueeze(1)).sum(-1)
    found = phonemes.gather(1, index.clamp(max=phonemes.shape[1] - 1))
    return found.masked_fill(batch.frame_padding, -1)
