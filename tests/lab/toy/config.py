"""Points on a wave, and the networks that are fitted to them, as configurations."""

from dataclasses import dataclass
from typing import ClassVar

from resonant.lab.kit.config import Data, digest
from resonant.models.fields import check_choice, check_least

RECIPE = 1  # of points.py: raise it when they change


@dataclass(frozen=True)
class WaveConfig(Data):
    """Points on a wave.

    Args:
        name: wave
        frequency: of the wave
        noise: standard deviation of what is added to the points of training
    """

    NAMES: ClassVar[tuple[str, ...]] = ("wave",)
    name: str = "wave"
    frequency: float = 3.0
    noise: float = 0.1

    def digest(self) -> str:
        """A hash of what the points are."""
        return digest(RECIPE, self)


@dataclass(frozen=True)
class CurveConfig:
    """A network of one hidden layer.

    Args:
        width: units of the hidden layer
        activation: of its units, tanh or relu
        architecture: curve
    """

    width: int = 16
    activation: str = "tanh"
    architecture: str = "curve"

    def __post_init__(self) -> None:
        check_least("model", self, {"width": 1})
        check_choice("model.activation", self.activation, ("tanh", "relu"))


@dataclass(frozen=True)
class LineConfig:
    """A line: another model, with no option but whether it has an offset."""

    offset: bool = True
    architecture: str = "line"
