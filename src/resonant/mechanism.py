"""Mechanisms by name: all that is particular to one, and how a user adds their own. No torch here.

Whoever must know whether a mechanism projects queries and keys, which scalars it learns or how it
starts from softmax asks its record; no other file lists names of mechanisms for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pkgutil import resolve_name
from typing import Any, TypeVar

from .errors import nearest

F = TypeVar("F", bound=Callable[..., Any])


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


def read_plain(output: Any, query: Any) -> Any:
    """The read-out of most mechanisms: the attention output as it is."""
    del query
    return output


def no_lift(query: Any, key: Any, value: Any, **scalars: Any) -> Any:
    """The lift of mechanisms that have none, or of ours before ``resonant.functional`` is there."""
    raise TypeError("this mechanism has no lift of queries, keys and values; use its module")


def start_anywhere(head_dim: int) -> Mapping[str, float]:
    """No starts of scalars that make a mechanism resemble softmax over the same projections."""
    del head_dim
    return {}


def near_softmax(head_dim: int) -> Mapping[str, float]:
    """Krause's width at which its logits are those of softmax, ``-|k|^2`` over twice it aside."""
    return {"sigma": head_dim**0.25}


@dataclass(frozen=True)
class Mechanism:
    """Two pure functions, the learned scalars they take, and what else is particular to them.

    Args:
        name: the mechanism's word in every room
        lift: (query, key, value, **scalars) -> ``Lift``, each scalar a tensor (head,)
        scalars: learned numbers that ``lift`` takes
        read: (output, query) -> output of the mechanism
        couples_phases: whether queries and keys are angles in radians, which are not projected
        projects: whether it is queries, keys and values projected per head, as ``nn.Attention``
            has them, that it attends with
        module: dotted name of its module (embed_dim, num_heads, ...); None: ``nn.Attention``
        module_scalars: learned numbers of the module that are none of ``lift``
        crosses: whether frames may listen to symbols by it
        timed: whether it attends from one sequence to another by time alone
        key_features: numbers of a lifted key beyond those of a head
        like_softmax: (head_dim) -> starts of scalars at which it is nearest to softmax over the
            same projections
        window_starts: starts of scalars that windows take in units of ``sqrt(head_dim)``
    """

    name: str
    lift: Callable[..., Any] = no_lift
    scalars: Mapping[str, Scalar] = field(default_factory=dict)
    read: Callable[[Any, Any], Any] = read_plain
    couples_phases: bool = False
    projects: bool = True
    module: str | None = None
    module_scalars: tuple[str, ...] = ()
    crosses: bool = False
    timed: bool = False
    key_features: int = 0
    like_softmax: Callable[[int], Mapping[str, float]] = start_anywhere
    window_starts: Mapping[str, float] = field(default_factory=dict)

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """Every learned number, of the lift and of the module."""
        return (*self.scalars, *self.module_scalars)

    def load_module(self) -> Any:
        """The class of ``module``, imported now; None where that is ``nn.Attention``."""
        return None if self.module is None else resolve_name(self.module)


# Those of our own; their lifts are bound where they are defined (``lift_of``).
OURS = (
    Mechanism("softmax", module="resonant.nn.softmax:SoftmaxAttention", crosses=True),
    Mechanism(
        "softmax-sink",
        scalars={"sink": Scalar(start=0.0, off=-math.inf, baseline="softmax", positive=False)},
    ),
    Mechanism(
        "krause",
        scalars={"sigma": Scalar(start=2.5, off=math.inf)},
        module="resonant.nn.krause:KrauseAttention",
        crosses=True,
        key_features=1,  # the norm
        like_softmax=near_softmax,
        window_starts={"sigma": 4.0},  # as published
    ),
    Mechanism(
        "kuramoto",
        scalars={"beta": Scalar(start=math.sqrt(2.0), off=0.0)},
        couples_phases=True,
        projects=False,
        module="resonant.nn.adapter:PhaseAdapter",
        module_scalars=("kappa",),
        crosses=True,
    ),
    Mechanism("linear", projects=False, module="resonant.nn.linear:LinearAttention"),
    Mechanism(
        "gaussian-mixture",
        projects=False,
        module="resonant.nn.mixture:MixtureAttention",
        crosses=True,
        timed=True,
    ),
    Mechanism(
        "forward",
        projects=False,
        module="resonant.nn.mixture:ForwardAttention",
        crosses=True,
        timed=True,
    ),
    Mechanism(
        "clock",
        projects=False,
        module="resonant.nn.clock:ClockAttention",
        module_scalars=("diffusion", "floor"),
        crosses=True,
        timed=True,
    ),
)
_MECHANISMS: dict[str, Mechanism] = {each.name: each for each in OURS}


def lift_of(name: str) -> Callable[[F], F]:
    """Decorator: the function is the lift of our mechanism called ``name``."""

    def bind(lift: F) -> F:
        _MECHANISMS[name] = replace(_MECHANISMS[name], lift=lift)
        return lift

    return bind


def register(
    name: str,
    *,
    read: Callable[[Any, Any], Any] = read_plain,
    couples_phases: bool = False,
    **scalars: Scalar,
) -> Callable[[F], F]:
    """Decorator: make ``lift(query, key, value, **scalars) -> Lift`` a mechanism under ``name``.

    From then on it is a module (``resonant.nn.attention(name, ...)``), a choice of
    ``language_model`` and ``resonant compare``, and a subject of ``resonant.testing``.

    Raises ``ValueError`` for a name that is taken.
    """

    def enrol(lift: F) -> F:
        if name in _MECHANISMS:
            raise ValueError(f"a mechanism named {name!r} is registered already; choose another")
        _MECHANISMS[name] = Mechanism(
            name,
            lift,
            dict(scalars),
            read,
            couples_phases=couples_phases,
            projects=not couples_phases,
        )
        return lift

    return enrol


def mechanisms() -> dict[str, Mechanism]:
    """All mechanisms that have a lift, by name."""
    return {name: each for name, each in _MECHANISMS.items() if each.lift is not no_lift}


def known_mechanism(name: str) -> Mechanism | None:
    """The mechanism called ``name``, or None where a plugin not imported yet may bring it."""
    return _MECHANISMS.get(name)


def crossing() -> tuple[str, ...]:
    """Names of the mechanisms by which frames may listen to symbols."""
    return tuple(name for name, each in _MECHANISMS.items() if each.crosses)


def branching() -> tuple[str, ...]:
    """Names of our mechanisms whose only scalar, if any, is the sigma that a branch has."""
    return tuple(e.name for e in OURS if e.projects and set(e.scalar_names) <= {"sigma"})


def mechanism(name: str) -> Mechanism:
    """The mechanism called ``name``; ``ValueError`` names the nearest if there is none."""
    if name not in _MECHANISMS:
        raise ValueError(
            f"no attention mechanism is called {name!r}; {nearest(name, _MECHANISMS)} "
            "(one of your own needs resonant.register first)"
        )
    return _MECHANISMS[name]
