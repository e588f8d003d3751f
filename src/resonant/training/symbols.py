"""Made-up utterances as a task: batches and tests that a key alone determines."""

from __future__ import annotations

from ..data.configs import SymbolsConfig
from ..data.symbols import utterances
from ..data.utterances import Utterances
from ..errors import UserError
from ..models.frames import FrameTransformer
from .conditions import AS_TRAINED, CONDITIONS, Condition
from .configs import RunConfig
from .frames import DECODED, EVALUATION_BATCH, FrameTask


class SymbolsTask(FrameTask):
    """``data.symbols`` at every tempo, and with twice as many symbols."""

    conditions = CONDITIONS

    def __init__(self, config: RunConfig, device: str = "cpu") -> None:
        assert isinstance(config.data, SymbolsConfig)
        self.data = config.data
        for field in ("vocabulary", "features"):
            ours, theirs = getattr(config.model, field), getattr(self.data, field)
            if ours != theirs:
                raise UserError(
                    f"the data have {field} = {theirs}, the model {ours}; pass --model.{field} "
                    f"{theirs}"
                )
        super().__init__(config, FrameTransformer, device)

    def _batch(self, step: int) -> Utterances:
        count = self.config.training.batch_size
        return utterances(self.data, "train", key=(self.config.seed, step), count=count)

    def _test(self, split: str, condition: Condition = AS_TRAINED) -> list[Utterances]:
        count = self.config.training.evaluation_windows * (4 if split == "test" else 1)
        most = 2 * self.data.longest
        symbols = (most, most) if condition.long else None
        sizes = [min(EVALUATION_BATCH, count - i) for i in range(0, count, EVALUATION_BATCH)]
        return [
            utterances(
                self.data,
                split,
                key=(0, index),
                count=size,
                tempo=condition.tempo,
                symbols=symbols,
            )
            for index, size in enumerate(sizes)
        ]

    def _heard(self) -> Utterances:
        return utterances(self.data, "test", key=(0, 0), count=DECODED)
