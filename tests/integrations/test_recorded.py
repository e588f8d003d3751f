"""Where attention was set up does not matter: what was learned comes back, or is refused aloud."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn

import resonant
from resonant.functional import Causal
from resonant.integrations import (
    add_krause_branch,
    describe_trainable,
    lora_config,
    restore_attention,
    save_branch,
    use_attention,
)
from resonant.integrations.record import steps
from resonant.nn import EnergyGate

from .test_restore import learned, output, vit
from .tiny import tiny, tokens


@pytest.mark.parametrize("how", ["use", "swap"])
def test_set_up_in_the_part_and_restored_in_the_whole_or_the_part(how: str, tmp_path: Path) -> None:
    model = tiny("llama")
    if how == "use":
        use_attention(model.model, "krause", check=False)
    else:
        resonant.swap(model.model, "krause")
    learned(model)
    model.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    restore_attention(again, tmp_path)
    assert torch.equal(output(again), output(model))
    inner: Any = transformers.LlamaModel.from_pretrained(tmp_path)
    restore_attention(inner, tmp_path)
    hidden = model.model(tokens()).last_hidden_state
    assert torch.equal(inner(tokens()).last_hidden_state, hidden)


def test_two_models_in_one_are_each_described() -> None:
    both = nn.ModuleDict(
        {"a": tiny("llama"), "b": tiny("llama"), "head": nn.MultiheadAttention(8, 2)}
    )
    resonant.swap(both, "krause")
    for name in "ab":
        (step,) = steps(both[name])
        assert step["layers"] == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    resonant.unswap(both)
    assert steps(both["a"]) == steps(both["b"]) == []


def test_a_part_without_a_configuration_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="swap in the whole model"):
        resonant.swap(tiny("llama").model.layers[0], "krause")


def test_an_infinite_scalar_comes_back(tmp_path: Path) -> None:
    model = tiny("llama")
    use_attention(model, "krause", sigma=float("inf"), check=False)
    model.save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    restore_attention(again, tmp_path)
    assert torch.equal(output(again), output(model))


@pytest.mark.usefixtures("unchecked")
def test_options_that_no_configuration_holds() -> None:
    for wrong in (torch.tensor(2.0), torch.ones(4)):
        with pytest.raises(TypeError, match="sigma is"):
            resonant.swap(vit(), "krause", sigma=wrong)
        with pytest.raises(TypeError, match="sigma is"):
            use_attention(tiny("llama"), "krause", sigma=wrong, check=False)  # type: ignore[arg-type]
    model = vit()
    with pytest.warns(UserWarning, match="gate is a module"):
        resonant.swap(model, "krause", gate=EnergyGate(32, 4))
    gates = [m for m in model.modules() if isinstance(m, EnergyGate)]
    assert len({id(gate) for gate in gates}) == 2  # one a layer


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bias": False}, "bias is that of the attention which is replaced"),
        ({"kdim": 5}, "kdim is that"),
        ({"embed_dim": 3}, "embed_dim is that"),
        ({"position": "rotary"}, "position is a module"),
        ({"top_k": 2.5}, "top_k counts the keys to keep: an integer"),
        ({"top_k": True}, "an integer"),
        ({"layers": True}, "layers are numbers or names"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 1)
    before = str(model)
    with pytest.raises(TypeError, match=says):
        resonant.swap(model, "krause", **options)
    assert str(model) == before


def test_new_projections_are_in_the_adapter(tmp_path: Path) -> None:
    base = vit()
    model = copy.deepcopy(base)
    resonant.swap(model, "kuramoto")
    adapted = peft.get_peft_model(model, lora_config(model, rank=2)).eval()
    assert "attention beta" in describe_trainable(adapted)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    adapted.save_pretrained(str(tmp_path))
    image = torch.randn(2, 3, 8, 8)
    again = restore_attention(base, tmp_path)
    torch.testing.assert_close(
        again(image).last_hidden_state, adapted(image).last_hidden_state, atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize("adapter", [False, True])
def test_save_branch_writes_branches_alone(adapter: bool, tmp_path: Path) -> None:
    model = tiny("llama")
    use_attention(model, "krause", check=False)
    add_krause_branch(model)
    if adapter:
        model = peft.get_peft_model(model, lora_config(model))
    with pytest.raises(ValueError, match="use_attention has set up attention in this model"):
        save_branch(model, tmp_path)


def test_what_comes_after_adapters_is_warned_of() -> None:
    model: Any = peft.get_peft_model(tiny("llama"), peft.LoraConfig(target_modules=["q_proj"]))
    with pytest.warns(UserWarning, match="adapters, which do not keep what krause learns"):
        use_attention(model, "krause", check=False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ["swap", "use", "branch"])
def test_quantized_models_are_refused_in_words(what: str) -> None:
    model = torch.ao.quantization.quantize_dynamic(tiny("llama"), {nn.Linear})
    set_up: dict[str, Any] = {
        "swap": lambda: resonant.swap(model, "krause"),
        "use": lambda: use_attention(model, "krause", check=False),
        "branch": lambda: add_krause_branch(model),
    }
    with pytest.raises(ValueError, match="is it quantized"):
        set_up[what]()


@pytest.mark.parametrize("lengths", [(9, 5), (5, 9), (7, 7)])
@pytest.mark.parametrize("weights", [False, True])
def test_a_hint_beside_a_mask_is_torchs(lengths: tuple[int, int], weights: bool) -> None:
    """The top-left corner, as nn.TransformerDecoderLayer means it (memory_is_causal)."""
    torch.manual_seed(0)
    plain = nn.ModuleDict({"a": nn.MultiheadAttention(8, 2, batch_first=True)}).eval()
    ours = copy.deepcopy(plain)
    resonant.swap(ours, "softmax")
    queries, keys = lengths
    x, memory = torch.randn(2, queries, 8), torch.randn(2, keys, 8)
    memory = x if queries == keys else memory
    mask = torch.ones(queries, keys, dtype=torch.bool).triu(1)
    named = {"attn_mask": mask, "is_causal": True, "need_weights": weights}
    expected, found = (m["a"](x, memory, memory, **named) for m in (plain, ours))
    torch.testing.assert_close(found, expected)


def test_wrong_arguments_of_a_swapped_module_are_named() -> None:
    model = nn.ModuleDict({"a": nn.MultiheadAttention(8, 2, batch_first=True)}).eval()
    resonant.swap(model, "krause", neighborhood=Causal(2))
    x = torch.randn(1, 3, 8)
    with pytest.raises(TypeError, match="there is no scale"):
        model["a"](x, x, x, scale=1.0)
    with pytest.raises(TypeError, match="there is no ninth argument"):
        model["a"](x, x, x, None, True, None, True, False, 1)
