"""Nothing accepted is dropped: every option of every module has an effect, or is refused.

The signatures are walked, so that a new option cannot go without a value here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.functional import Causal, Sphere, attention_weights
from resonant.functional.lift import Lift
from resonant.functional.softmax import softmax_lift
from resonant.nn import (
    AttentionCache,
    BiasedRotaryPosition,
    ClockAttention,
    EnergyGate,
    KrauseAttention,
    KuramotoAttention,
    LearnedPosition,
    LinearAttention,
    MixtureAttention,
    MorletPosition,
    OscillatorPosition,
    PhaseAdapter,
    RelativeMorletPosition,
    RotaryPosition,
    SinusoidalPosition,
    SoftmaxAttention,
)
from resonant.nn.attention import Attention

EMBED, HEADS, LENGTH = 16, 4, 9
CROSSING = (ClockAttention, MixtureAttention)


def heads() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, HEADS, LENGTH, 4, generator=generator) for _ in range(3))


def tokens(width: int, length: int = LENGTH, seed: int = 3) -> Tensor:
    return torch.randn(2, length, width, generator=torch.Generator().manual_seed(seed))


def named(mechanism: str) -> Callable[..., nn.Module]:
    """``Attention`` of one mechanism, walked as a class is."""

    def make(**options: Any) -> nn.Module:
        return Attention(mechanism, EMBED, HEADS, **options)

    make.__signature__ = inspect.signature(Attention)  # type: ignore[attr-defined]
    return make


ATTENTIONS: dict[str, Callable[..., nn.Module]] = {
    "softmax": SoftmaxAttention,
    "softmax-sink": named("softmax-sink"),
    "krause": KrauseAttention,
    "linear": LinearAttention,
    "kuramoto": PhaseAdapter,
    "phases": KuramotoAttention,
    "clock": ClockAttention,
    "mixture": MixtureAttention,
}
PARENTS: dict[str, list[Any]] = {  # whose options **options are
    "softmax": [Attention],
    "krause": [Attention],
    "kuramoto": [KuramotoAttention],
}
SIZES = {"embed_dim": EMBED, "num_heads": HEADS}


def gate(name: str) -> EnergyGate:
    return EnergyGate(2 * EMBED if name == "phases" else EMBED, HEADS)


def values(name: str) -> dict[str, Any]:
    """A value that is not the default for every option there is."""
    return {
        "dropout": 0.5,
        "bias": False,
        "kdim": 6,
        "vdim": 6,
        "batch_first": False,
        "num_key_value_heads": 2,
        "neighborhood": Causal(3),
        "cross_neighborhood": Causal(3),
        "top_k": 2,
        "position": RotaryPosition(8 if name == "phases" else 4),
        "gate": gate(name),
        "scalars_per": "layer",
        "sigma": 0.7,
        "sink": 1.5,
        "phases": 4,
        "manifold": Sphere(4),
        "phase_gate": "static",
        "lag": True,
        "key_gate": True,
        "self_score": "threshold",
        "successors": True,
        "score_block": "next",
        "kernel": 2,
        "steps": 2,
        "beta": 0.3,
        "kappa": 0.4,
        "normalized": False,
        "score": "density",
        "measure": True,
        "listen": True,
        "tempo": True,
        "diffusion": 0.5,
        "floor": 3.0,
        "query_rate": 2.0,
        "components": 5,
    }


def options_of(name: str) -> list[str]:
    found: dict[str, None] = {}
    for each in (ATTENTIONS[name], *PARENTS.get(name, [])):
        for parameter in inspect.signature(each).parameters.values():
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                found[parameter.name] = None
    more = {"softmax-sink": ["sink"]}.get(name, [])
    return [n for n in [*found, *more] if n not in ("mechanism_name", *SIZES)]


def made(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = () if name == "softmax-sink" else (EMBED, HEADS)
    return ATTENTIONS[name](*sizes, **options).train()


def called(name: str, module: nn.Module, **given: Any) -> Any:
    """Self-attention, then cross-attention; the keys as wide as the module's."""
    torch.manual_seed(0)
    x = tokens(EMBED)
    kdim = getattr(module, "kdim", None) or EMBED
    vdim = getattr(module, "vdim", None) or EMBED
    features = getattr(module, "manifold", None)
    if name == "phases" and features is not None:
        x = tokens(EMBED * features.components)
        key = value = tokens(x.shape[-1], 7, 4)
    else:
        key, value = tokens(kdim, 7, 4), tokens(vdim, 7, 4 if kdim == vdim else 5)
    coupled = name in ("phases", "kuramoto")  # whose values are the keys' phases
    crossing = module(x, key, **given) if coupled else module(x, key, value, **given)
    if name in ("clock", "mixture") or kdim != EMBED or vdim != EMBED:
        return crossing, crossing
    return module(x, **given), crossing


def made_or_refused(option: str, make: Callable[[], Any]) -> Any:
    """What ``make`` gives, or None where it refuses ``option`` by name."""
    said = None
    try:
        return make()
    except (ValueError, TypeError) as error:
        said = str(error)
    assert any(word in said for word in (option, option.replace("is_", ""))), said
    return None


CASES = [(name, option) for name in ATTENTIONS for option in options_of(name)]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "option"), CASES, ids=[f"{n}-{o}" for n, o in CASES])
def test_an_option_of_a_module_has_an_effect_or_is_refused(name: str, option: str) -> None:
    """On what there is to learn, on where that starts, or on outputs from the same state."""
    plain = made(name)
    other = made_or_refused(option, lambda: made(name, **{option: values(name)[option]}))
    if other is None:
        return
    before, after = plain.state_dict(), other.state_dict()
    if {n: x.shape for n, x in before.items()} != {n: x.shape for n, x in after.items()}:
        return
    started = any(not torch.equal(before[n], after[n]) for n in before)
    noise = torch.Generator().manual_seed(2)
    state = {n: x + 0.2 * torch.randn(x.shape, generator=noise) for n, x in before.items()}
    plain.load_state_dict(state)
    other.load_state_dict(state)
    expected, found = called(name, plain), called(name, other)
    changed = any(
        a[0].shape != b[0].shape or not torch.equal(a[0], b[0])
        for a, b in zip(expected, found, strict=True)
    )
    assert started or changed, f"{name} takes {option} and drops it"


def arguments_of(name: str) -> list[str]:
    module = made(name)
    return [
        p
        for p in inspect.signature(type(module).forward).parameters
        if p not in ("self", "query", "key", "value")
    ]


CALLS = [(name, argument) for name in ATTENTIONS for argument in arguments_of(name)]


@pytest.mark.parametrize(("name", "argument"), CALLS, ids=[f"{n}-{a}" for n, a in CALLS])
def test_an_argument_of_a_call_has_an_effect_or_is_refused(name: str, argument: str) -> None:
    module: Any = made(name).eval()
    width = EMBED * module.manifold.components if name == "phases" else EMBED
    x = tokens(width)
    given = (x, tokens(EMBED, seed=4)) if name in ("clock", "mixture") else (x,)
    padding = torch.zeros(2, LENGTH, dtype=torch.bool)
    padding[:, -3:] = True
    value = {
        "key_padding_mask": padding,
        "query_padding_mask": padding,
        "attn_mask": torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1),
        "is_causal": True,
        "need_weights": True,
        "cache": getattr(module, "new_cache", AttentionCache)(),
        "documents": (torch.arange(LENGTH) > 4).long()[None],
    }[argument]
    with torch.no_grad():
        plain = module(*given)
        found = made_or_refused(argument, lambda: module(*given, **{argument: value}))
    if found is None:
        return
    if argument == "need_weights":
        assert plain[1] is None
        assert found[1] is not None
    elif argument == "cache":
        assert value.length == LENGTH
    else:
        assert not torch.equal(plain[0], found[0]), f"{name} takes {argument} and drops it"


def of_lift(module: Any, **given: Any) -> Tensor:
    lift: Lift = module(softmax_lift(*heads()), tokens(EMBED), **given)
    return torch.cat([x.flatten() for x in lift.tensors() if x is not None])


POSITIONS: dict[Any, dict[str, Any]] = {
    RotaryPosition: {"base": 50.0, "convention": "interleaved"},
    BiasedRotaryPosition: {
        "num_key_value_heads": 2,
        "amplitude": 0.3,
        "delays": (3, 2, 1, 0),
        "base": 50.0,
        "convention": "interleaved",
    },
    RelativeMorletPosition: {"base": 50.0, "convention": "interleaved", "ell": 3.0},
    OscillatorPosition: {
        "count": 3,
        "within": RotaryPosition(4),
        "amplitude": 0.3,
        "longest": 64,
        "delays": (3, 2, 1, 0),
        "learn_frequencies": True,
        "learn_phases": False,
    },
    SinusoidalPosition: {"base": 50.0},
    MorletPosition: {},
    LearnedPosition: {},
}


@pytest.mark.parametrize("kind", POSITIONS, ids=lambda kind: kind.__name__)
def test_an_option_of_a_position_has_an_effect(kind: Any) -> None:
    sizes = {"embed_dim": EMBED, "head_dim": 4, "num_heads": HEADS, "max_length": 32}
    taken = inspect.signature(kind).parameters
    fixed = {n: sizes[n] for n in taken if n in sizes}
    assert set(taken) - set(fixed) == set(POSITIONS[kind])

    def output(**options: Any) -> Tensor:
        torch.manual_seed(0)
        position = kind(**fixed, **options)
        if hasattr(position, "place"):
            places = torch.arange(LENGTH)
            query, *others = heads()
            key, value = (x[:, : options.get("num_key_value_heads", HEADS)] for x in others)
            query, key = position.shift(query, key)
            turned = torch.cat([position.rotate(each, places) for each in (query, key)], 1)
            placed = position.place(softmax_lift(query, key, value), places, places)
            learned = torch.tensor([float(p.numel()) for p in position.parameters()])
            seen = (turned, attention_weights(placed), learned)
            return torch.cat([each.flatten() for each in seen])
        return position(torch.arange(LENGTH)[None])

    for option, value in POSITIONS[kind].items():
        plain, other = output(), output(**{option: value})
        assert plain.shape != other.shape or not torch.equal(plain, other), option


GATE = {"alpha": 0.3, "tau": 1.0, "standardize": "none", "allow_future_leak": True}


@pytest.mark.parametrize("option", GATE)
def test_an_option_of_a_gate_has_an_effect(option: str) -> None:
    """A gate over the whole sequence is asked for by two options, one of them alone is refused."""
    taken = set(inspect.signature(EnergyGate).parameters)
    assert taken - {"embed_dim", "num_key_value_heads"} == set(GATE)

    def output(**options: Any) -> Tensor:
        torch.manual_seed(0)
        return of_lift(EnergyGate(EMBED, HEADS, **options))

    if option == "allow_future_leak":
        with pytest.raises(ValueError, match="allow_future_leak"):
            EnergyGate(EMBED, HEADS, standardize="sequence")
        leaking = {"standardize": "sequence", "allow_future_leak": True}
        assert not torch.equal(output(), output(**leaking))
        with pytest.raises(ValueError, match="allow_future_leak"):
            EnergyGate(EMBED, HEADS, allow_future_leak=True)
        return
    assert not torch.equal(output(), output(**{option: GATE[option]}))
