"""Mechanisms by name: what one consists of, and how a user adds their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import nearest
from .krause import krause_lift
from .kuramoto import BETA, kuramoto_lift
from .lift import Lift
from .softmax import sink_lift, softmax_lift


@dataclass(frozen=True)
class Scalar:
    """A learned number per query head: where it starts, and the value that switches it off.

    ``off`` is the value at which the mechanism is exactly ``baseline`` (the name of a mechanism,
    or "mean" for uniform weights over the neighbourhood); the laws hold every scalar to it. With
    ``positive`` the logarithm is what is stored and learned.

    Raises ``ValueError`` for a positive scalar that does not start above 0.
    """

    start: float
    off: float
    baseline: str = "mean"
    positive: bool = True

    def __post_init__(self) -> None:
        if self.positive and not self.start > 0:
            raise ValueError(f"a positive scalar must start above 0, not at {self.start}")


def read_plain(output: Tensor, query: Tensor) -> Tensor:
    """The read-out of most mechanisms: the attention output as it is."""
    del query
    return output


@dataclass(frozen=True)
class Mechanism:
    """Two pure functions and the learned scalars they take.

    ``lift(query, key, value, **scalars) -> Lift`` and ``read(output, query) -> Tensor``; each
    scalar reaches ``lift`` as a tensor (head,). With ``couples_phases`` queries and keys are angles
    in radians, which ``nn.Attention`` does not project.
    """

    name: str
    lift: Callable[..., Lift]
    scalars: Mapping[str, Scalar] = field(default_factory=dict)
    read: Callable[[Tensor, Tensor], Tensor] = read_plain
    couples_phases: bool = False


_MECHANISMS: dict[str, Mechanism] = {}


def register(
    name: str,
    *,
    read: Callable[[Tensor, Tensor], Tensor] = read_plain,
    couples_phases: bool = False,
    **scalars: Scalar,
) -> Callable[[Callable[..., Lift]], Callable[..., Lift]]:
    """Decorator: make ``lift(query, key, value, **scalars) -> Lift`` a mechanism under ``name``.

    From then on it is a module (``resonant.nn.attention(name, ...)``), a choice of
    ``language_model`` and ``resonant compare``, and a subject of ``resonant.testing``.

    Raises ``ValueError`` for a name that is taken.
    """

    def enrol(lift: Callable[..., Lift]) -> Callable[..., Lift]:
        if name in _MECHANISMS:
            raise ValueError(f"a mechanism named {name!r} is registered already; choose another")
        _MECHANISMS[name] = Mechanism(name, lift, dict(scalars), read, couples_phases)
        return lift

    return enrol


def mechanisms() -> dict[str, Mechanism]:
    """All registered mechanisms by name."""
    return dict(_MECHANISMS)


def mechanism(name: str) -> Mechanism:
    """The mechanism called ``name``; ``ValueError`` names the nearest if there is none."""
    if name not in _MECHANISMS:
        raise ValueError(
            f"no attention mechanism is called {name!r}; {nearest(name, _MECHANISMS)} "
            "(one of your own needs resonant.register first)"
        )
    return _MECHANISMS[name]


register("softmax")(softmax_lift)
register(
    "softmax-sink",
    sink=Scalar(start=0.0, off=-math.inf, baseline="softmax", positive=False),
)(sink_lift)
register("krause", sigma=Scalar(start=2.5, off=float("inf")))(krause_lift)
register("kuramoto", couples_phases=True, beta=Scalar(start=BETA, off=0.0))(kuramoto_lift)
