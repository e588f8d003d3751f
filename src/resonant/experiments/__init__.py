"""Experiments by name, one a file: arms as configurations."""

from .adapters import LLAMA as _LLAMA
from .adapters import LLAMA_PUBLISHED as _LLAMA_PUBLISHED
from .adapters import QWEN as _QWEN
from .adapters import QWEN_PUBLISHED as _QWEN_PUBLISHED
from .align import EXPERIMENT as _ALIGN
from .energy_gate import EXPERIMENT as _ENERGY_GATE
from .energy_gate import PUBLISHED as _ENERGY_GATE_PUBLISHED
from .experiment import Arm, Experiment
from .pixels import CIFAR10_PUBLISHED as _CIFAR10_PIXELS_PUBLISHED
from .pixels import MNIST as _MNIST_PIXELS
from .pixels import MNIST_PUBLISHED as _MNIST_PIXELS_PUBLISHED
from .probes import EXPERIMENT as _PROBES
from .random_characters import EXPERIMENT as _RANDOM_CHARACTERS
from .shakespeare import EXPERIMENT as _SHAKESPEARE
from .speech import EXPERIMENT as _SPEECH
from .speech import FULL as _SPEECH_FULL
from .stdlib import EXPERIMENT as _STDLIB
from .vision import CIFAR10_PUBLISHED as _CIFAR10_PUBLISHED
from .vision import CIFAR10_SUBSET as _CIFAR10_SUBSET
from .vision import DIGITS as _DIGITS
from .vision import IMAGENET_PUBLISHED as _IMAGENET_PUBLISHED
from .vision import SWIN_PUBLISHED as _SWIN_PUBLISHED

_ALL = (
    _STDLIB,
    _SHAKESPEARE,
    _PROBES,
    _ALIGN,
    _SPEECH,
    _SPEECH_FULL,
    _ENERGY_GATE,
    _ENERGY_GATE_PUBLISHED,
    _RANDOM_CHARACTERS,
    _DIGITS,
    _CIFAR10_SUBSET,
    _MNIST_PIXELS,
    _CIFAR10_PUBLISHED,
    _IMAGENET_PUBLISHED,
    _SWIN_PUBLISHED,
    _MNIST_PIXELS_PUBLISHED,
    _CIFAR10_PIXELS_PUBLISHED,
    _LLAMA,
    _QWEN,
    _LLAMA_PUBLISHED,
    _QWEN_PUBLISHED,
)
EXPERIMENTS: dict[str, Experiment] = {each.name: each for each in _ALL}

__all__ = ["EXPERIMENTS", "Arm", "Experiment"]
