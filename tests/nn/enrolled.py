"""Every module that the laws of faults are about, with inputs for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from resonant.functional import Band, Causal
from resonant.nn import (
    BiasedRotaryPosition,
    ClockAttention,
    EnergyGate,
    ForwardAttention,
    MixtureAttention,
    OscillatorPosition,
    PhaseAdapter,
    RelativeMorletPosition,
    RotaryPosition,
    attention,
)

EMBED, HEADS = 16, 4
Build = Callable[[], nn.Module]


def with_gate(name: str, **options: Any) -> nn.Module:
    return attention(name, EMBED, HEADS, gate=EnergyGate(EMBED, HEADS), **options)


def phases(**options: Any) -> nn.Module:
    return PhaseAdapter(EMBED, HEADS, phases=8, **options)


def oscillators() -> OscillatorPosition:
    return OscillatorPosition(HEADS, within=RotaryPosition(4))


MODULES: dict[str, Build] = {
    "softmax": lambda: attention("softmax", EMBED, HEADS),
    "sink": lambda: attention("softmax-sink", EMBED, HEADS),
    "krause": lambda: attention("krause", EMBED, HEADS),
    "krause causal": lambda: attention("krause", EMBED, HEADS, neighborhood=Causal()),
    "krause window": lambda: attention("krause", EMBED, HEADS, neighborhood=Causal(4)),
    "krause window and first": lambda: attention(
        "krause", EMBED, HEADS, neighborhood=Causal(3, first=2), top_k=4
    ),
    "krause top-k": lambda: attention("krause", EMBED, HEADS, top_k=3),
    "krause band": lambda: attention("krause", EMBED, HEADS, neighborhood=Band(2)),
    "gate": lambda: with_gate("softmax"),
    "gate on a sink": lambda: with_gate("softmax-sink", neighborhood=Causal()),
    "gate and first": lambda: with_gate(
        "softmax-sink",
        neighborhood=Causal(3, first=1),
        position=RelativeMorletPosition(4, HEADS),
    ),
    "gate on krause": lambda: with_gate("krause", neighborhood=Causal(5)),
    "rotary": lambda: attention("softmax", EMBED, HEADS, position=RotaryPosition(4)),
    "morlet": lambda: attention("krause", EMBED, HEADS, position=RelativeMorletPosition(4, HEADS)),
    "biased rotary": lambda: attention(
        "krause",
        EMBED,
        HEADS,
        num_key_value_heads=2,
        position=BiasedRotaryPosition(4, HEADS, num_key_value_heads=2),
    ),
    "oscillators": lambda: attention(
        "krause", EMBED, HEADS, neighborhood=Causal(), position=oscillators()
    ),
    "oscillators in a window": lambda: attention(
        "softmax", EMBED, HEADS, neighborhood=Causal(4), top_k=3, position=oscillators()
    ),
    "kuramoto": phases,
    "kuramoto with oscillators": lambda: phases(position=OscillatorPosition(HEADS)),
    "kuramoto with lag": lambda: phases(lag=True, steps=2, gate=EnergyGate(16, HEADS)),
    "kuramoto threshold": lambda: phases(self_score="threshold"),
    "kuramoto threshold and first": lambda: phases(
        self_score="threshold", neighborhood=Causal(3, first=2), key_gate=True
    ),
    "kuramoto threshold in a window": lambda: phases(
        self_score="threshold", neighborhood=Causal(4), top_k=2, steps=2
    ),
    "kuramoto successors in a window": lambda: phases(
        successors=True, self_score="threshold", neighborhood=Causal(3, first=2), steps=2
    ),
    "kuramoto successors": lambda: phases(
        successors=True, self_score="threshold", neighborhood=Causal()
    ),
    "kuramoto key gate": lambda: phases(key_gate=True, steps=2),
    "kuramoto kernel": lambda: phases(kernel=2, neighborhood=Causal()),
    "kuramoto next block": lambda: phases(score_block="next", steps=2, self_score="threshold"),
    "kuramoto static": lambda: phases(phase_gate="static"),
    "linear biased rotary": lambda: attention(
        "linear", EMBED, HEADS, position=BiasedRotaryPosition(4, HEADS)
    ),
    "linear": lambda: attention("linear", EMBED, HEADS, position=RotaryPosition(4)),
}
CROSS: dict[str, Build] = {
    **{
        f"clock {s}": lambda s=s: ClockAttention(EMBED, HEADS, score=s)
        for s in ("frozen", "density", "interval")
    },
    "clock running": lambda: ClockAttention(EMBED, HEADS, normalized=False, measure=True),
    "clock gated": lambda: ClockAttention(EMBED, HEADS, gate=EnergyGate(EMBED, HEADS)),
    "clock listening": lambda: ClockAttention(
        EMBED, HEADS, normalized=False, listen=True, tempo=True
    ),
    "mixture": lambda: MixtureAttention(EMBED, HEADS),
    "forward": lambda: ForwardAttention(EMBED, HEADS),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = (MODULES | CROSS)[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def inputs(name: str, batch: int = 2, length: int = 9) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(batch, length, EMBED, generator=generator)
    return (x, torch.randn(batch, 7, EMBED, generator=generator)) if name in CROSS else (x,)
