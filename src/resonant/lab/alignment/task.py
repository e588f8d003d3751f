"""Made-up utterances as a task: batches and tests that a key alone determines."""

from __future__ import annotations

from pathlib import Path

from ...models.frames import FrameTransformer
from ..kit.config import RunConfig
from .conditions import AS_TRAINED, CONDITIONS, HARD, Condition
from .config import SymbolsConfig
from .frames import DECODED, EVALUATION_BATCH, FrameTask
from .symbols import utterances
from .utterances import Utterances


class AlignmentTask(FrameTask):
    """``data.symbols`` at every tempo, with twice as many symbols, and frame by frame the hard."""

    def __init__(self, config: RunConfig, data_dir: Path | None, device: str = "cpu") -> None:
        del data_dir  # made up
        assert isinstance(config.data, SymbolsConfig)
        self.data = config.data
        super().__init__(config, FrameTransformer, device)
        self.conditions = CONDITIONS if self.model.parallel else (*CONDITIONS, *HARD)

    def batch(self, step: int) -> Utterances:
        count = self.config.training.batch_size
        return utterances(self.data, "train", key=(self.config.seed, step), count=count)

    def batches(self, split: str, condition: Condition = AS_TRAINED) -> list[Utterances]:
        count = self.config.training.evaluated(split)
        sizes = [min(EVALUATION_BATCH, count - i) for i in range(0, count, EVALUATION_BATCH)]
        return [
            utterances(self.data, split, key=(0, index), count=size, condition=condition)
            for index, size in enumerate(sizes)
        ]

    def _heard(self) -> Utterances:
        return utterances(self.data, "test", key=(0, 0), count=DECODED)
