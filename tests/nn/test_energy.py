"""The gate as a module: what it does to weights, where it is refused, how it is trained."""

import inspect
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resonant.functional import Causal, Full
from resonant.functional.attend import record_paths
from resonant.lab.kit.config import TrainingConfig
from resonant.lab.kit.optimizer import build_optimizer
from resonant.models.language import language_model
from resonant.models.language_configs import AttentionConfig
from resonant.nn import (
    EnergyGate,
    RelativeMorletPosition,
    RotaryPosition,
    attention,
    build_gate,
    register_gate,
)

EMBED, HEADS = 16, 4


def build(name: str = "softmax", *, gate: EnergyGate | None = None, **options) -> Any:
    torch.manual_seed(0)
    return attention(name, EMBED, HEADS, gate=gate, **options).double()


def tokens(length: int = 20) -> Tensor:
    return torch.randn(
        2, length, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("name", ["softmax", "krause", "softmax-sink"])
@pytest.mark.parametrize("off", [{"alpha": 0.0}, {"tau": -math.inf}])
def test_off_is_exactly_no_gate(name: str, off: dict[str, Any]) -> None:
    assert set(off) <= set(EnergyGate.OFF)
    gate = EnergyGate(EMBED, HEADS, **off)
    for neighborhood in (Causal(), Causal(5)):
        ours, plain = (
            build(name, gate=g, neighborhood=neighborhood).eval()(tokens(), need_weights=True)[1]
            for g in (gate, None)
        )
        assert torch.equal(ours, plain)


def test_every_float_of_the_signature_has_an_off() -> None:
    parameters = inspect.signature(EnergyGate).parameters.values()
    assert {p.name for p in parameters if isinstance(p.default, float)} == set(EnergyGate.OFF)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_weights_are_multiplied_and_renormalized(key_heads: int) -> None:
    gate = EnergyGate(EMBED, key_heads, alpha=1.3, tau=0.2).double()
    options = {"num_key_value_heads": key_heads, "neighborhood": Causal()}
    x = tokens()
    _, plain = build(**options)(x, need_weights=True)
    _, ours = build(gate=gate, **options)(x, need_weights=True)
    energy = gate.energy(x).mT
    z = torch.zeros_like(energy)
    for j in range(1, x.shape[1]):
        past = energy[..., : j + 1]
        z[..., j] = (energy[..., j] - past.mean(-1)) / (past.var(-1, correction=0) + 1e-6).sqrt()
    g = torch.sigmoid(1.3 * (z - 0.2)).repeat_interleave(HEADS // key_heads, dim=1).unsqueeze(2)
    assert plain is not None
    expected = plain * g / (plain * g).sum(-1, keepdim=True)
    torch.testing.assert_close(ours, expected)


def test_it_stays_on_the_fused_and_the_banded_path() -> None:
    with record_paths() as taken:
        for neighborhood in (Full(), Causal(), Causal(5)):
            build(gate=EnergyGate(EMBED, HEADS), neighborhood=neighborhood)(tokens())
    assert taken == ["fused", "fused", "banded"]


def test_padding_is_not_counted() -> None:
    module, x = build(gate=EnergyGate(EMBED, HEADS), neighborhood=Causal()), tokens()
    padding = torch.zeros(2, 20, dtype=torch.bool)
    padding[:, :6] = True
    for mask in (padding, torch.zeros(2, 20).masked_fill(padding, -math.inf).double()):
        padded, _ = module(x, key_padding_mask=mask)
        alone, _ = module(x[:, 6:])
        torch.testing.assert_close(padded[:, 6:], alone)


@pytest.mark.parametrize("blocked", [-1e9, -1e4, torch.finfo(torch.float64).min, -math.inf])
def test_padding_written_as_a_large_negative_number_is_padding(blocked: float) -> None:
    module, x = build(gate=EnergyGate(EMBED, HEADS), neighborhood=Causal()), tokens()
    mask = torch.zeros(2, 20, dtype=torch.float64)
    mask[:, :6] = blocked
    loud = x.clone()
    loud[:, :6] *= 50
    quiet, changed = (module(each, key_padding_mask=mask)[0][:, 6:] for each in (x, loud))
    assert torch.equal(quiet, changed)


@pytest.mark.usefixtures("unchecked")
def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"use EnergyGate\(16, 4\)"):
        build(gate=EnergyGate(EMBED, 2))
    with pytest.raises(ValueError, match=r"keys here come from 6 features and have 2 heads"):
        build(gate=EnergyGate(EMBED, 2), kdim=6, num_key_value_heads=2)
    x = tokens()
    for position in (RotaryPosition(2), RelativeMorletPosition(8, 4)):
        with pytest.raises(ValueError, match="head_dim must be that of the attention's heads"):
            build(position=position)(x)
    with pytest.raises(ValueError, match="num_heads must be that of the attention"):
        build(position=RelativeMorletPosition(4, 3))(x)
    with pytest.raises(TypeError, match=r"convert 0/1 integers with \.bool"):
        build()(x, key_padding_mask=torch.zeros(2, 20, dtype=torch.long))
    with pytest.raises(ValueError, match="documents labels the tokens of self-attention"):
        build()(x, documents=torch.zeros(20, dtype=torch.long))


def test_cross_attention_gates_what_is_attended_to() -> None:
    module = build(gate=EnergyGate(6, HEADS), kdim=6, vdim=6)
    memory = torch.randn(2, 9, 6, dtype=torch.float64)
    output, weights = module(tokens(), memory, need_weights=True)
    assert output.shape == (2, 20, EMBED)
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, 20, dtype=torch.float64))


def test_sequence_is_refused_wherever_causality_is_or_may_be_meant() -> None:
    with pytest.raises(ValueError, match="pass allow_future_leak=True where nothing is causal"):
        EnergyGate(EMBED, HEADS, standardize="sequence")
    leaky = EnergyGate(EMBED, HEADS, standardize="sequence", allow_future_leak=True)
    with pytest.raises(ValueError, match=r"the neighborhood is Causal\(window=None, own=True"):
        build(gate=leaky, neighborhood=Causal())
    module, x = build(gate=leaky).eval(), tokens()
    output, _ = module(x)
    assert output.isfinite().all()
    for options, why in [
        ({"is_causal": True}, "attention is causal here"),
        ({"attn_mask": torch.ones(20, 20).triu(1).bool()}, "attn_mask may be causal"),
        ({"cache": module.new_cache(), "is_causal": True}, "attention is causal here"),
        ({"cache": module.new_cache()}, "a cache is for causal attention"),
    ]:
        with pytest.raises(ValueError, match=why):
            module(x, **options)


def test_energies_are_not_decayed_and_have_a_bias_only_where_it_counts() -> None:
    module = attention("softmax", EMBED, HEADS, gate=EnergyGate(EMBED, HEADS))
    decayed = build_optimizer(module, TrainingConfig()).param_groups[0]["params"]
    ids = {id(p) for p in decayed}
    assert id(module.get_parameter("gate.energy.weight")) not in ids
    assert id(module.get_parameter("q_proj.weight")) in ids
    assert len(ids) == 4
    assert dict(module.get_submodule("gate.energy").named_parameters()).keys() == {"weight"}
    assert EnergyGate(EMBED, HEADS, standardize="none").energy.bias is not None


def test_everything_in_it_learns() -> None:
    module = attention("krause", EMBED, HEADS, gate=EnergyGate(EMBED, HEADS))
    module(torch.randn(2, 30, EMBED), is_causal=True)[0].square().sum().backward()
    for name in ("gate.energy.weight", "gate.alpha.value", "gate.tau.value"):
        gradient = module.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().sum() > 0


def test_gates_of_one_s_own_are_built_by_name() -> None:
    assert type(build_gate("energy", 16, 4)) is EnergyGate
    assert build_gate("energy", 16, 4, standardize="none").standardize == "none"

    class Half(EnergyGate):
        """Of energies half as large."""

        def __init__(self, embed_dim: int, num_key_value_heads: int) -> None:
            super().__init__(embed_dim, num_key_value_heads, alpha=1.0)

    name = "half-of-the-tests"
    assert register_gate(name)(Half) is Half
    assert isinstance(build_gate(name, 16, 4), Half)
    model = language_model(attention=AttentionConfig(gate=name))
    assert all(isinstance(layer.gate, Half) for layer in model.attentions())
    with pytest.raises(ValueError, match=f"read by the gate 'energy'; the gate here is '{name}'"):
        build_gate(name, 16, 4, standardize="none")
    with pytest.raises(ValueError, match=f"{name}' is registered already; choose another"):
        register_gate(name)(Half)
    with pytest.raises(ValueError, match="no gate is called 'enrgy'; did you mean 'energy'"):
        build_gate("enrgy", 16, 4)


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_energy_gate_is_not_registered() -> None:
    with pytest.raises(TypeError, match="only as a subclass of EnergyGate"):
        register_gate("linear")(nn.Linear)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_drops_into_the_encoder(mode: str) -> None:
    layer = nn.TransformerEncoderLayer(EMBED, HEADS, 8, batch_first=True, dropout=0.0).double()
    gate = EnergyGate(EMBED, HEADS, standardize="sequence", allow_future_leak=True)
    layer.self_attn = build(gate=gate)  # type: ignore[assignment]
    getattr(layer, mode)()
    padding = torch.zeros(2, 20, dtype=torch.bool)
    padding[:, 15:] = True
    x = tokens()
    padded = layer(x, src_key_padding_mask=padding)[:, :15]
    torch.testing.assert_close(padded, layer(x[:, :15]), atol=1e-6, rtol=1e-6)
