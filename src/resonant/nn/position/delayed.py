"""Positions that let each head begin by looking some tokens back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ...functional.lift import Lift
from ...functional.position import Convention, oscillate, oscillator_frequencies
from ..parameter import WideVector
from .turned import HeadPosition, RotaryPosition


class OscillatorPosition(HeadPosition):
    """Reference oscillators: cosines of the distance, of learned size and delay in each head.

    ``sum_f a_hf cos(omega_f (t - u) + phi_hf)`` is added to the logit of a query at t and a key at
    u, beside what ``within``, another position, does (usually ``RotaryPosition``). ``a`` starts at
    ``amplitude`` nats and ``phi_hf`` at ``-omega_f delay_h``, where every wave of a head has its
    maximum: the head begins by looking ``delays[h]`` tokens back. ``count`` frequencies go from pi
    to ``2 pi / longest`` radians per position; ``learn_frequencies`` and ``learn_phases`` say what
    else than ``a`` is learned.

    Two more features an oscillator; any mechanism with a lift, grouped heads, windows, caches,
    documents and padding. Frequencies and phases stay in float32 or better.

    Raises ``ValueError`` for fewer than one oscillator, a period below 2 or delays that are not one
    a head and at least 0.

    Source: ours (section 5 of the mathematics); ``functional.oscillate``.
    """

    OFF: ClassVar[dict[str, float]] = {"amplitude": 0.0}

    def __init__(
        self,
        num_heads: int,
        count: int = 8,
        *,
        within: HeadPosition | None = None,
        amplitude: float = 0.7,
        longest: int = 128,
        delays: Sequence[int] | None = None,
        learn_frequencies: bool = False,
        learn_phases: bool = True,
    ) -> None:
        super().__init__()
        if within is not None and not isinstance(within, HeadPosition):
            raise TypeError(f"within is a position such as RotaryPosition(16), not {within!r}")
        self.within = within
        if within is not None:
            self.convention = within.convention
        self.delays = checked_delays(num_heads, delays)
        self.count, self.longest = count, longest
        omega = oscillator_frequencies(count, longest)  # refuses what has none
        if not math.isfinite(amplitude):
            raise ValueError(f"amplitude is a finite number of nats; it is {amplitude}")
        self.amplitude = WideVector(torch.full((num_heads, count), float(amplitude)))
        self.omega = WideVector(omega) if learn_frequencies else None
        self.phase = WideVector(self._delayed(omega)) if learn_phases else None

    def _delayed(self, omega: Tensor) -> Tensor:
        """Phases (head, oscillator) in (-pi, pi] at which waves are highest after the delays."""
        delays = torch.tensor(self.delays, dtype=torch.float64, device=omega.device)
        turned = -delays.unsqueeze(1) * omega.double()
        return torch.remainder(turned + math.pi, 2.0 * math.pi) - math.pi

    @property
    def shifts(self) -> bool:
        return self.within is not None and self.within.shifts

    def shift(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return (query, key) if self.within is None else self.within.shift(query, key)

    def angle(self, position: Tensor, dtype: torch.dtype) -> Tensor | None:
        return None if self.within is None else self.within.angle(position, dtype)

    def rotate(self, features: Tensor, position: Tensor) -> Tensor:
        return features if self.within is None else self.within.rotate(features, position)

    def place(self, lift: Lift, query_position: Tensor, key_position: Tensor) -> Lift:
        if self.within is not None:
            lift = self.within.place(lift, query_position, key_position)
        # What is not learned is computed anew: no buffer that model.to(bfloat16) would round.
        omega = oscillator_frequencies(self.count, self.longest).to(key_position.device)
        omega = omega if self.omega is None else self.omega()
        phase = self._delayed(omega) if self.phase is None else self.phase()
        waves = omega, self.amplitude(), phase
        return oscillate(lift, *waves, query_position=query_position, key_position=key_position)

    def extra_repr(self) -> str:
        return f"{len(self.delays)}, {self.count}, longest={self.longest}, delays={self.delays}"


class BiasedRotaryPosition(RotaryPosition):
    """Rotary positions with learned vectors on queries and keys, which let rotation alone place.

    ``(q + b_h)^T R(u - t) (k + c)``: without content, ``b_h^T R c`` is a sum of cosines of the
    distance at the rotary frequencies, what ``OscillatorPosition`` has at its own, and no feature
    is added. ``c`` (key_head, dim) and ``b`` (head, dim) start so that every cosine has
    ``amplitude`` nats under softmax's scale, and its maximum ``delays[h]`` tokens back.

    Raises ``ValueError`` as ``RotaryPosition`` does, for an amplitude below 0 and for delays that
    are not one a head and at least 0; inside coupling, which turns phases and has no such vectors.

    Source: ours, as a control of ``OscillatorPosition``; biases of queries and keys are those of
    Qwen (arXiv 2309.16609, section 2.3), their start is not.
    """

    OFF: ClassVar[dict[str, float]] = {"base": float("inf"), "amplitude": 0.0}

    def __init__(
        self,
        head_dim: int,
        num_heads: int,
        *,
        num_key_value_heads: int | None = None,
        amplitude: float = 0.7,
        delays: Sequence[int] | None = None,
        base: float = 10_000.0,
        convention: Convention = "half",
    ) -> None:
        super().__init__(head_dim, base, convention=convention)
        if not 0 <= amplitude < math.inf:
            raise ValueError(f"amplitude is at least 0, in nats, and finite; it is {amplitude}")
        self.delays = checked_delays(num_heads, delays)
        key_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        if key_heads < 1 or num_heads % key_heads:
            raise ValueError(
                "num_key_value_heads must divide num_heads, but they are "
                f"{num_key_value_heads} and {num_heads}"
            )
        self.key_bias = WideVector(self._waves(amplitude, torch.zeros(key_heads, dtype=torch.long)))
        self.query_bias = WideVector(self._waves(amplitude, -torch.tensor(self.delays)))

    def _waves(self, amplitude: float, position: Tensor) -> Tensor:
        """Vectors (head, dim) whose products are cosines of their distance, of that height."""
        size = math.sqrt(amplitude * math.sqrt(self.head_dim))
        place = torch.arange(self.head_dim)
        half = self.convention == "half"
        cosine = place < self.head_dim // 2 if half else place % 2 == 0
        features = (size * cosine.float()).expand(1, 1, len(position), -1)
        return self.rotate(features, position)[0, 0]

    def shift(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        biases = self.query_bias().unsqueeze(1), self.key_bias().unsqueeze(1)
        for what, heads, bias in zip(("query", "key"), (query, key), biases, strict=True):
            if heads.shape[1] != len(bias) or heads.shape[3] != bias.shape[2]:
                raise ValueError(
                    f"this position was made for {len(bias)} {what} heads of {bias.shape[2]} "
                    f"features, but there are {heads.shape[1]} of {heads.shape[3]}; make it for "
                    "these (num_heads, num_key_value_heads, head_dim)"
                )
        return query + biases[0].to(query.dtype), key + biases[1].to(key.dtype)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, delays={self.delays}"


def checked_delays(heads: int, delays: Sequence[int] | None) -> tuple[int, ...]:
    """Delays by head, the usual ones where none are given; ``ValueError`` for others."""
    if heads < 1:
        raise ValueError(f"num_heads is at least 1; it is {heads}")
    chosen = usual_delays(heads) if delays is None else tuple(delays)
    whole = all(isinstance(delay, int) for delay in chosen)
    if len(chosen) != heads or not whole or min(chosen) < 0:
        raise ValueError(
            f"delays are one whole number of tokens a head ({heads}), each at least 0; they are "
            f"{chosen}"
        )
    return chosen


def usual_delays(heads: int) -> tuple[int, ...]:
    """Give the tokens that each head looks back at the start: of several heads most 0 to 2."""
    if heads <= 4:
        return (0, 1, 2, 4)[:heads]
    return tuple((0, 0, 0, 1, 1, 2, 2, 3)[8 * head // heads] for head in range(heads))
