"""What was set up and learned comes back: from save_pretrained, from PEFT, and is missed aloud."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

import resonant
from resonant.functional import Causal
from resonant.integrations import (
    add_krause_branch,
    describe_trainable,
    drop_attention,
    lora_config,
    remove_krause_branch,
    restore_attention,
    trainable_parameters,
    use_attention,
)
from resonant.integrations.record import steps

from .tiny import tiny, tokens

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def vit() -> Any:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=8,
        patch_size=2,
    )
    return transformers.ViTModel(config, add_pooling_layer=False).eval()


def use(model: Any) -> None:
    options = {"neighborhood": Causal(6), "top_k": 4, "sigma": 2.0}
    use_attention(model, "krause", gate="prefix", check=False, **options)


def use_some(model: Any) -> None:
    use_attention(model, "softmax-sink", layers=[1], check=False)


def swap(model: Any) -> None:
    resonant.swap(model, "krause", neighborhood=Causal(6), sigma=2.0)


def branch(model: Any) -> None:
    add_krause_branch(model, window=6, top_k=4, sigma=2.0, start="mix")


def both(model: Any) -> None:
    resonant.swap(model, "krause", layers=[0])
    use_attention(model, "krause", layers=["*.1.*"], check=False)


def grid(model: Any) -> None:
    resonant.swap(model, "krause", neighborhood=resonant.Grid(4, 4), layers=[0])
    resonant.swap(model, "softmax-sink", layers=[1])


def phases(model: Any) -> None:
    resonant.swap(model, "kuramoto", layers=[1])


LLAMA: list[Callable[[Any], None]] = [use, use_some, swap, branch, both]
VIT: list[Callable[[Any], None]] = [use_some, grid, phases]


def learned(model: Any) -> None:
    """As if after training: every number is another."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("origin"):
                buffer.add_(0.1)


def output(model: Any) -> torch.Tensor:
    with torch.no_grad():
        if isinstance(model, transformers.ViTModel):
            return model(IMAGE).last_hidden_state
        return model(tokens()).logits


@pytest.mark.parametrize("set_up", LLAMA, ids=lambda f: f.__name__)
@pytest.mark.parametrize("sharded", [False, True], ids=["one-file", "sharded"])
def test_a_saved_language_model_comes_back(
    set_up: Callable[[Any], None], sharded: bool, tmp_path: Path
) -> None:
    model = tiny("llama")
    plain = output(model)
    set_up(model)
    learned(model)
    model.save_pretrained(tmp_path, **({"max_shard_size": "20KB"} if sharded else {}))
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    assert (output(again) - output(model)).abs().max() > 1e-3  # a softmax model
    assert restore_attention(again, tmp_path) is again
    torch.testing.assert_close(output(again), output(model), atol=1e-6, rtol=1e-6)
    assert steps(again) == steps(model)
    again.save_pretrained(tmp_path / "second")
    third = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "second")
    assert torch.equal(output(restore_attention(third, tmp_path / "second")), output(again))
    assert output(model).shape == plain.shape


@pytest.mark.parametrize("set_up", VIT, ids=lambda f: f.__name__)
def test_a_saved_vision_model_comes_back(set_up: Callable[[Any], None], tmp_path: Path) -> None:
    model = vit()
    set_up(model)
    learned(model)
    model.save_pretrained(tmp_path)
    again = transformers.ViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert (output(again) - output(model)).abs().max() > 1e-3
    restore_attention(again, tmp_path)
    torch.testing.assert_close(output(again), output(model), atol=1e-6, rtol=1e-6)


def warnings_of(load: Callable[[], Any]) -> str:
    """What transformers logs while ``load`` runs."""
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logger, handler = logging.getLogger("transformers.modeling_utils"), Keep()
    logger.addHandler(handler)
    try:
        load()
    finally:
        logger.removeHandler(handler)
    return "\n".join(seen)


@pytest.mark.parametrize("set_up", [use, swap, branch], ids=lambda f: f.__name__)
def test_a_plain_reload_says_what_it_lacks(set_up: Callable[[Any], None], tmp_path: Path) -> None:
    model = tiny("llama")
    model.save_pretrained(tmp_path / "plain")
    plain = tmp_path / "plain"
    set_up(model)
    model.save_pretrained(tmp_path)
    load = transformers.LlamaForCausalLM.from_pretrained
    said = warnings_of(lambda: load(tmp_path))
    assert "UNEXPECTED" in said
    assert "MISSING" not in said
    assert ".sigma.value" in said
    assert said.count("resonant.integrations.restore_attention(model, folder)") == 1
    assert "restore_attention" not in warnings_of(lambda: load(plain))


@pytest.mark.parametrize("set_up", [use, swap, branch], ids=lambda f: f.__name__)
def test_what_peft_saves_comes_back(set_up: Callable[[Any], None], tmp_path: Path) -> None:
    model = tiny("llama")
    set_up(model)
    adapted = peft.get_peft_model(model, lora_config(model))
    counts = trainable_parameters(adapted)
    heads = "branch sigma" if set_up is branch else "attention sigma"
    assert counts[heads] == 8  # four heads in two layers
    assert heads in describe_trainable(adapted)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(str(tmp_path))
    adapted.eval()
    again = restore_attention(tiny("llama"), tmp_path)
    assert isinstance(again, peft.PeftModel)
    torch.testing.assert_close(output(again), output(adapted), atol=1e-6, rtol=1e-6)
    assert not any(p.requires_grad for p in again.parameters())
    further = restore_attention(tiny("llama"), tmp_path, trainable=True)
    assert trainable_parameters(further) == counts


def test_a_gate_is_trained_and_saved_by_peft(tmp_path: Path) -> None:
    model = tiny("llama")
    use(model)
    adapted = peft.get_peft_model(model, lora_config(model))
    assert trainable_parameters(adapted)["attention gate"] == 2 * (16 * 2 + 2 + 2)
    adapted(tokens()).logits.square().mean().backward()
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad and (".gate." in name or "sigma" in name):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_other_families_learn_their_scalars_too() -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.GPTNeoXConfig(vocab_size=64, intermediate_size=48, **sizes)
    model = transformers.GPTNeoXForCausalLM(config).eval()
    use_attention(model, "krause", gate="none", check=False)
    adapted = peft.get_peft_model(model, lora_config(model))
    counts = trainable_parameters(adapted)
    assert counts["attention sigma"] == 8
    assert counts["attention gate"] > 0


def test_a_name_of_the_hub_is_looked_up_where_from_pretrained_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched: a name that from_pretrained has not fetched is refused."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = tiny("llama")
    use(model)
    learned(model)
    kept = tmp_path / "models--someone--theirs"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    model.save_pretrained(kept / "snapshots" / ("0" * 40))
    again = transformers.LlamaForCausalLM.from_pretrained(kept / "snapshots" / ("0" * 40))
    restore_attention(again, "someone/theirs")
    torch.testing.assert_close(output(again), output(model), atol=1e-6, rtol=1e-6)
    for name in ("someone/else", "no name, no folder"):
        with pytest.raises(FileNotFoundError, match="neither a folder nor the name"):
            restore_attention(tiny("llama"), name)


def test_what_is_taken_out_is_struck_out() -> None:
    model = tiny("llama")
    use(model)
    drop_attention(model)
    assert steps(model) == []
    assert "resonant" not in model.config.to_dict()
    resonant.swap(model, "krause")
    resonant.swap(model, "softmax", layers=[0])
    resonant.unswap(model)
    assert [(s["mechanism"], len(s["layers"])) for s in steps(model)] == [("krause", 1)]
    resonant.unswap(model)
    assert steps(model) == []
    branch(model)
    remove_krause_branch(model)
    assert steps(model) == []


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_restored_is_refused_and_left_alone(tmp_path: Path) -> None:
    model = tiny("llama")
    model.save_pretrained(tmp_path / "plain")
    with pytest.raises(ValueError, match="names no attention of ours"):
        restore_attention(tiny("llama"), tmp_path / "plain")
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        restore_attention(tiny("llama"), tmp_path / "nowhere")
    use(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="set up in this model already"):
        restore_attention(model, tmp_path)
    fresh, before = tiny("llama"), output(tiny("llama"))
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="missing or damaged"):
        restore_attention(fresh, tmp_path)
    tiny("llama").save_pretrained(tmp_path / "other")
    weights = (tmp_path / "other" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"lack model\.layers\.0\.self_attn\.resonant"):
        restore_attention(fresh, tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    for wrong, says in (
        ([{"by": "use_attention"}], "lacks a part"),
        ([described["resonant"][0] | {"by": "magic"}], "none of ours"),
        ([described["resonant"][0] | {"layers": ["model.layers.9.self_attn"]}], "no attention"),
        ([described["resonant"][0] | {"options": {"widow": 3}}], r"is damaged: .*widow"),
        ([described["resonant"][0] | {"options": {"top_k": "four"}}], "is damaged"),
        ([described["resonant"][0] | {"options": {"sigma": [1, 2]}}], "is damaged"),
        ([described["resonant"][0] | {"options": 3}], "is damaged"),
        ([described["resonant"][0] | {"layers": 3}], "is damaged"),
        ([described["resonant"][0] | {"mechanism": "krauze"}], "krause"),
        ([described["resonant"][0] | {"mechanism": ["krause"]}], "is damaged"),
        ([described["resonant"][0] | {"options": {"neighborhood": {"kind": "Ring"}}}], "one of"),
        (
            [described["resonant"][0] | {"options": {"neighborhood": {"kind": "Causal", "w": 1}}}],
            "is damaged",
        ),
        (7, "is damaged"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(described | {"resonant": wrong}))
        with pytest.raises(ValueError, match=says):
            restore_attention(fresh, tmp_path)
    assert torch.equal(output(fresh), before)
    assert steps(fresh) == []
