"""Kuramoto modules: laws of the layer, states of low-precision models, the adapter, errors."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.functional import Causal, record_paths, rotary_frequencies
from resonant.functional.kuramoto import kuramoto_coupling
from resonant.functional.manifold import Circle, Manifold, Sphere, Unitary, manifold
from resonant.nn import (
    EnergyGate,
    KuramotoAttention,
    PhaseAdapter,
    PhaseBlock,
    RelativeMorletPosition,
    RotaryPosition,
    SoftmaxAttention,
)
from resonant.nn.kuramoto import GATE_START
from resonant.nn.parameter import WideEmbedding

WIDTH, HEADS = 20, 4
COORDINATES = WIDTH // HEADS
MANIFOLDS = ["circle", "sphere-3", "sphere-4", "so-3", "u-2"]


def build(**options: Any) -> KuramotoAttention:
    torch.manual_seed(0)
    module = KuramotoAttention(WIDTH, HEADS, **options).double()
    with torch.no_grad():  # away from the start, where a content gate is nearly constant
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


def states(module: KuramotoAttention, tokens: int = 11, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, tokens, HEADS, module.manifold.velocities, COORDINATES)
    force = 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return module.join(module.manifold.point(force))


def test_the_module_is_the_function() -> None:
    module = build(position=RotaryPosition(2 * COORDINATES), lag=True, neighborhood=Causal(5))
    state = states(module)
    ours, weights = module(state, need_weights=True)
    points = module.split(state).transpose(1, 2).squeeze(-2)  # (batch, head, token, coordinate)
    features = torch.cat([points.cos(), points.sin()], -1).transpose(1, 2).flatten(2)
    assert module.lag_proj is not None
    gate, lag = (
        layer(features).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for layer in (module.gate_proj, module.lag_proj)
    )
    velocity = kuramoto_coupling(
        points,
        gate,
        module.beta(),
        omega=rotary_frequencies(2 * COORDINATES).float().double(),
        lag=lag,
        neighborhood=Causal(5),
    )
    kappa = module.kappa().unflatten(0, (HEADS, 1, -1))
    moved = (points + kappa * velocity).transpose(1, 2).flatten(2)
    apart = torch.remainder(ours - moved + math.pi, 2 * math.pi) - math.pi
    assert apart.abs().max() < 1e-6  # rotary frequencies are float32
    assert weights.shape == (2, HEADS, 11, 11)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, 11).double())


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", MANIFOLDS)
def test_kappa_off_is_the_identity(name: str, steps: int) -> None:
    module = KuramotoAttention(WIDTH, HEADS, manifold=manifold(name), kappa=0.0, steps=steps)
    module = module.double()
    state = states(module)
    moved, _ = module(state, is_causal=True)
    embed = module.manifold.embed
    before, after = (embed(module.split(x)) for x in (state, moved))
    torch.testing.assert_close(after, before)
    if isinstance(module.manifold, Circle):
        assert torch.equal(moved, state)
        block = PhaseBlock(module, 12).double()
        nn.init.zeros_(block.drive.down_proj.weight)
        torch.testing.assert_close(embed(module.split(block(state))), before)


def test_beta_off_is_the_mean() -> None:
    module = KuramotoAttention(WIDTH, HEADS, beta=KuramotoAttention.OFF["beta"]).double()
    _, weights = module(states(module), need_weights=True)
    assert torch.equal(weights, torch.full_like(weights, 1 / 11))


@pytest.mark.parametrize("kind", [KuramotoAttention, PhaseAdapter])
def test_every_float_of_the_signature_has_an_off(kind: type) -> None:
    parameters = inspect.signature(KuramotoAttention).parameters.values()
    floats = {p.name for p in parameters if isinstance(p.default, float)}
    own = inspect.signature(kind).parameters.values()
    floats |= {p.name for p in own if isinstance(p.default, float)}
    assert floats == set(kind.OFF) == {"beta", "kappa", "dropout"}  # type: ignore[attr-defined]


def test_a_static_gate_ignores_a_common_shift_a_content_gate_does_not() -> None:
    shift = 0.7
    static, past = {"phase_gate": "static"}, {"neighborhood": Causal()}
    for options, invariant in (
        (static, True),
        (static | past | {"successors": True}, True),
        (static | past | {"kernel": 2}, True),
        (static | {"self_score": "threshold"}, False),
        ({"phase_gate": "content"}, False),
    ):
        module = build(position=RotaryPosition(2 * COORDINATES), **options)  # type: ignore[arg-type]
        if module.own_score is not None:
            nn.init.normal_(module.own_score.weight)
        state = states(module)
        still, moved = (module(x, is_causal=True)[0] - x for x in (state, state + shift))
        apart = (torch.remainder(moved - still + math.pi, 2 * math.pi) - math.pi).abs().max()
        assert (apart.item() < 1e-6) is invariant


def test_both_gates_start_as_a_constant() -> None:
    content, static = (
        KuramotoAttention(WIDTH, HEADS, phase_gate=kind).double() for kind in ("content", "static")
    )
    nn.init.zeros_(content.gate_proj.weight)
    assert content.gate_proj.bias.eq(GATE_START).all()
    state = states(content)
    torch.testing.assert_close(content(state)[0], static(state)[0], atol=1e-6, rtol=1e-6)


def test_a_lag_that_starts_changes_nothing_and_then_learns() -> None:
    torch.manual_seed(0)
    lagging = KuramotoAttention(WIDTH, HEADS, lag=True).double()
    plain = KuramotoAttention(WIDTH, HEADS).double()
    plain.load_state_dict({n: x for n, x in lagging.state_dict().items() if "lag" not in n})
    state = states(plain)
    torch.testing.assert_close(lagging(state)[0], plain(state)[0])
    lagging(state)[0].sin().sum().backward()
    gradient = lagging.get_parameter("lag_proj.weight").grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", MANIFOLDS)
def test_steps_share_their_weights(name: str) -> None:
    once, thrice = (build(manifold=manifold(name), steps=steps) for steps in (1, 3))
    thrice.load_state_dict(once.state_dict())
    state = states(once)
    repeated = state
    for _ in range(3):
        repeated = once(repeated, is_causal=True)[0]
    torch.testing.assert_close(thrice(state, is_causal=True)[0], repeated)


@pytest.mark.parametrize("name", MANIFOLDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_masks_and_causality(name: str, side: str) -> None:
    module = build(manifold=manifold(name), steps=2, position=RotaryPosition(2 * COORDINATES))
    state = states(module)
    later = state.clone()
    later[:, 6:] = states(module, seed=1)[:, 6:]
    before, after = (module(x, is_causal=True)[0][:, :6] for x in (state, later))
    assert torch.equal(before, after)
    padded = torch.zeros(2, 11, dtype=torch.bool)
    padded[:, slice(0, 4) if side == "left" else slice(7, 11)] = True
    real = ~padded[0]
    ours = module(state, key_padding_mask=padded)[0][:, real]
    torch.testing.assert_close(ours, module(state[:, real])[0], atol=1e-6, rtol=1e-6)
    causal = torch.ones(11, 11, dtype=torch.bool).triu(1)
    torch.testing.assert_close(module(state, attn_mask=causal)[0], module(state, is_causal=True)[0])


@pytest.mark.parametrize("name", MANIFOLDS)
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("gated", [False, True])
def test_cached_is_full(name: str, window: int | None, gated: bool) -> None:
    of = manifold(name)
    gate = EnergyGate(WIDTH * of.features, HEADS) if gated else None
    module = build(
        manifold=of,
        steps=2,
        lag=True,
        gate=gate,
        position=RelativeMorletPosition(2 * COORDINATES, HEADS, ell=3.7),
        neighborhood=Causal(window),
        top_k=3,
    ).eval()
    state = states(module, 23)
    with torch.no_grad():
        full, _ = module(state)
        cache, parts = module.new_cache(), []
        for start, stop in ((0, 5), (5, 12), *((t, t + 1) for t in range(12, 23))):
            parts.append(module(state[:, start:stop], cache=cache)[0])
        apart = of.embed(module.split(torch.cat(parts, 1))) - of.embed(module.split(full))
    assert apart.abs().max() < 1e-9
    assert cache.length == 23
    assert len(cache.steps) == 2
    assert cache.nbytes > 0


def test_an_energy_gate_hides_tokens() -> None:
    gate = EnergyGate(2 * WIDTH, HEADS)
    module = build(gate=gate)
    state = states(module)
    _, weights = module(state, is_causal=True, need_weights=True)
    with torch.no_grad():
        gate.alpha.value.zero_()
    _, off = module(state, is_causal=True, need_weights=True)
    module.gate = None
    _, plain = module(state, is_causal=True, need_weights=True)
    assert torch.equal(off, plain)
    assert not torch.allclose(weights, plain, atol=1e-3)


@pytest.mark.parametrize("phase_gate", ["content", "static"])
@pytest.mark.parametrize("name", MANIFOLDS)
def test_low_precision_keeps_phases_wide(name: str, phase_gate: Any) -> None:
    of = manifold(name)
    torch.manual_seed(0)
    module = KuramotoAttention(
        WIDTH, HEADS, manifold=of, phase_gate=phase_gate, position=RotaryPosition(2 * COORDINATES)
    )
    state = states(module).float()
    reference, _ = module(state, is_causal=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast, _ = module(state, is_causal=True)
    low, _ = module.to(torch.bfloat16)(state, is_causal=True)
    for output in (autocast, low):
        assert output.dtype == torch.float32
        apart = of.embed(module.split(output)) - of.embed(module.split(reference))
        assert apart.abs().max() < 0.03
        x = of.embed(module.split(output))
        assert (of.inner(x, x) - 1).abs().max() < 1e-5


def test_dropout_only_in_training() -> None:
    module = build(dropout=0.5)
    state = states(module)
    assert not torch.equal(module(state)[0], module(state)[0])
    module.eval()
    assert torch.equal(module(state)[0], module(state)[0])


def test_paths() -> None:
    for options, path in (
        ({"neighborhood": Causal()}, "fused"),
        ({"neighborhood": Causal(4)}, "banded"),
        ({"neighborhood": Causal(4), "top_k": 2}, "banded"),
        ({"gate": EnergyGate(2 * WIDTH, HEADS), "neighborhood": Causal()}, "fused"),
        ({"position": RelativeMorletPosition(2 * COORDINATES, HEADS)}, "chunked"),
    ):
        module = build(**options)  # type: ignore[arg-type]
        with record_paths() as taken:
            module(states(module))
        assert taken == [path]


def test_the_adapter_adds_nothing_when_off() -> None:
    adapter = PhaseAdapter(16, HEADS, kappa=0.0, bias=False).double()
    assert adapter(torch.randn(2, 9, 16, dtype=torch.float64))[0].eq(0).all()
    live = PhaseAdapter(16, HEADS).double()
    assert live(torch.randn(2, 9, 16, dtype=torch.float64))[0].abs().max() > 0.01


@pytest.mark.parametrize("name", ["circle", "sphere-4", "u-2"])
def test_the_adapter_on_other_manifolds_and_other_tokens(name: str) -> None:
    of = manifold(name)
    adapter = PhaseAdapter(16, HEADS, manifold=of, phases=12, kdim=6).double()
    query, memory = (torch.randn(2, n, w, dtype=torch.float64) for n, w in ((7, 16), (9, 6)))
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[:, 6:] = True
    ours, weights = adapter(query, memory, memory, key_padding_mask=padding, need_weights=True)
    assert ours.shape == (2, 7, 16)
    assert weights.shape == (2, HEADS, 7, 9)
    torch.testing.assert_close(ours, adapter(query, memory[:, :6])[0])
    ours.sum().backward()
    assert all(p.grad is not None for p in adapter.parameters())


def test_the_adapter_attends_with_as_many_features_as_softmax() -> None:
    adapter, softmax = PhaseAdapter(16, HEADS), SoftmaxAttention(16, HEADS)
    assert 2 * adapter.coupling.head_dim == softmax.head_dim
    for module in (adapter, softmax):  # the same position serves both
        position = RotaryPosition(4)
        getattr(module, "coupling", module).position = position
        assert module(torch.randn(1, 5, 16), is_causal=True)[0].shape == (1, 5, 16)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"num_heads": 3}, "num_heads must divide embed_dim, but they are 3 and 20"),
        ({"phase_gate": "dense"}, "phase_gate is content or static; it is 'dense'"),
        ({"steps": 0}, "steps counts couplings, so it is at least 1; it is 0"),
        ({"kappa": 2.5}, r"a coupling strength starts in \[0, 2\), not at 2.5"),
        ({"position": RotaryPosition(10, convention="interleaved")}, "pair no features"),
        ({"gate": EnergyGate(20, 4)}, r"use EnergyGate\(40, 4\)"),
        ({"batch_first": False}, "batch_first=False is not supported"),
    ],
)
def test_bad_options_are_refused(options: dict, why: str) -> None:
    arguments: dict[str, Any] = {"embed_dim": WIDTH, "num_heads": HEADS} | options
    with pytest.raises(ValueError, match=why):
        KuramotoAttention(**arguments)


@pytest.mark.usefixtures("unchecked")
def test_bad_inputs_are_refused() -> None:
    module = KuramotoAttention(WIDTH, HEADS, manifold=Sphere(3))
    with pytest.raises(ValueError, match=r"states \(batch, token, 60\), but the query has shape"):
        module(torch.randn(2, 5, WIDTH))
    state = states(module).float()
    with pytest.raises(ValueError, match="leave value out, or pass the key"):
        module(state, state, state + 1)
    assert module(state, state, state)[0].shape == state.shape
    with pytest.raises(ValueError, match="make it for a head_dim of 10"):
        KuramotoAttention(WIDTH, HEADS, position=RotaryPosition(8))(torch.randn(1, 5, WIDTH))
    cache = KuramotoAttention(WIDTH, HEADS, steps=2).new_cache()
    module = KuramotoAttention(WIDTH, HEADS).eval()
    why = "this cache is for 2 coupling steps, but there are 1"
    with torch.no_grad(), pytest.raises(ValueError, match=why):
        module(torch.randn(1, 5, WIDTH), is_causal=True, cache=cache)
    with pytest.raises(ValueError, match=r"as many key heads as query heads \(4\), not 2"):
        PhaseAdapter(16, HEADS, num_key_value_heads=2)
    with pytest.raises(ValueError, match="leave vdim out"):
        PhaseAdapter(16, HEADS, vdim=5)
    x = torch.randn(1, 5, 16)
    with pytest.raises(ValueError, match="leave value out"):
        PhaseAdapter(16, HEADS)(x, x, x + 1)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_is_said_in_the_user_s_words() -> None:
    with pytest.raises(
        TypeError, match=r"manifold is a Manifold such as Sphere\(4\), not 'sphere-4'"
    ):
        KuramotoAttention(WIDTH, HEADS, manifold="sphere-4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not start below 0, but it starts at -1"):
        KuramotoAttention(WIDTH, HEADS, beta=-1.0)
    with pytest.raises(ValueError, match=r"must divide phases .* they are 2 and 3"):
        PhaseAdapter(6, 2)
    with pytest.raises(ValueError, match=r"the query has shape \(3, 16\); add a batch axis"):
        PhaseAdapter(16, HEADS)(torch.randn(3, 16))
    x = torch.randn(1, 3, WIDTH)
    coupling, softmax = (
        KuramotoAttention(WIDTH, HEADS).eval(),
        SoftmaxAttention(WIDTH, HEADS).eval(),
    )
    with torch.no_grad():
        for module, other in ((coupling, softmax), (softmax, coupling)):
            with pytest.raises(TypeError, match="use the cache of this very model's new_cache"):
                module(x, is_causal=True, cache=other.new_cache())


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch's, of the fused kernel
def test_gradients_per_sample() -> None:
    module = PhaseAdapter(16, HEADS)
    parameters: dict[str, Any] = dict(module.named_parameters())

    def loss(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(module, values, (x.unsqueeze(0),))[0].sum()

    x = torch.randn(3, 5, 16)
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    summed = torch.func.grad(lambda p: sum(loss(p, row) for row in x))(parameters)
    for name, gradient in summed.items():
        torch.testing.assert_close(each[name].sum(0), gradient, atol=1e-5, rtol=1e-4)


def test_gradients_survive_a_change_of_precision() -> None:
    model = nn.ModuleList([WideEmbedding(5, 8), RelativeMorletPosition(8, 2)])
    nn.init.normal_(model.get_parameter("0.weight"))
    model[0](torch.arange(5)).sum().backward()
    optimizer = torch.optim.AdamW(model.to(torch.bfloat16).parameters())
    optimizer.step()
    assert model.get_parameter("0.weight").dtype == torch.float32


def test_attention_proper_does_not_take_phases() -> None:
    from resonant.nn import Attention

    with pytest.raises(ValueError, match="use PhaseAdapter inside an ordinary block"):
        Attention("kuramoto", 16, HEADS)


def test_gradcheck_of_the_layer() -> None:
    torch.manual_seed(0)
    kinds: tuple[Manifold, ...] = (Circle(), Sphere(4), Unitary(1))
    for of in kinds:
        module = KuramotoAttention(4, 2, manifold=of, lag=True, steps=2).double()
        nn.init.normal_(module.get_parameter("lag_proj.weight"), std=0.3)
        force = torch.randn(1, 4, 2, of.velocities, 2, dtype=torch.float64)
        state = module.join(of.point(force)).requires_grad_()
        parameters = tuple(module.parameters())

        def run(state: Tensor, *parameters: Tensor, module: nn.Module = module) -> Tensor:
            names = [name for name, _ in module.named_parameters()]
            values = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(module, values, (state,), {"is_causal": True})[0]

        assert torch.autograd.gradcheck(run, (state, *parameters), fast_mode=True)
