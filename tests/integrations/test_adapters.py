"""Branches on disk and under PEFT: what learns, what is saved, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from resonant.errors import UserError
from resonant.integrations import (
    add_krause_branch,
    branches,
    describe_trainable,
    lora_config,
    remove_krause_branch,
    restore_attention,
    save_branch,
    trainable_parameters,
)

from .tiny import FAMILIES, awake, decoded, left_padding, tiny, tokens

STEPS = 20


def adapted(family: str, start: str = "identity", mechanism: str = "krause") -> Any:
    model = tiny(family)
    add_krause_branch(model, window=6, top_k=4, start=start, mechanism=mechanism)
    return peft.get_peft_model(model, lora_config(model, dropout=0.0))


def trained(model: Any) -> Any:
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2)
    model.train()
    for step in range(STEPS):
        ids = tokens(seed=step)
        model(ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_from_the_identity_start_everything_in_the_branch_moves(family: str) -> None:
    model = adapted(family)
    ids = tokens()
    assert torch.equal(model(ids).logits, tiny(family)(ids).logits)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    trained(model)
    moved = {n: (p - before[n]).abs().max().item() for n, p in model.named_parameters()}
    learned = {
        n: x for n, x in moved.items() if before[n].numel() and model.get_parameter(n).requires_grad
    }
    own = {n: x for n, x in learned.items() if "krause_branch" in n}
    for part in ("gamma", "sigma", "mixing"):
        assert any(f".{part}." in name for name in own)
    low_rank = [n for n in own if ".lora_A." in n or ".lora_B." in n]
    assert len(low_rank) == 2 * 4 * 2  # two layers, four projections, two matrices
    assert min(learned.values()) > 1e-4
    assert all(x == 0 for n, x in moved.items() if n not in learned)  # the pretrained stays


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("start", ["identity", "mix"])
def test_adapters_come_back(family: str, start: str, tmp_path: Path) -> None:
    model, ids = trained(adapted(family, start)), tokens()
    logits = model(ids).logits
    save_branch(model, tmp_path)
    again = restore_attention(tiny(family), tmp_path).eval()
    assert torch.equal(again(ids).logits, logits)
    assert not any(p.requires_grad for p in again.parameters())
    learning = restore_attention(tiny(family), tmp_path, trainable=True)
    assert trainable_parameters(learning) == trainable_parameters(model)
    with model.disable_adapter():
        plain = model(ids).logits
    if start == "identity":
        assert torch.equal(plain, tiny(family)(ids).logits)
    model.merge_adapter()
    torch.testing.assert_close(model(ids).logits, logits, atol=5e-5, rtol=1e-4)
    model.unmerge_adapter()
    torch.testing.assert_close(model(ids).logits, logits, atol=5e-5, rtol=1e-4)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(ids).logits, logits, atol=5e-5, rtol=1e-4)
    assert not hasattr(merged, "peft_config")


def test_adapted_models_decode_as_they_read() -> None:
    model, ids, mask = trained(adapted("qwen2")), tokens(), left_padding()
    with torch.no_grad():
        full = model(ids, attention_mask=mask).logits
    real = mask.bool()
    torch.testing.assert_close(decoded(model, ids, mask)[real], full[real], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_branch_alone_comes_back(family: str, tmp_path: Path) -> None:
    model, ids = tiny(family), tokens()
    add_krause_branch(model, window=6, top_k=None, sigma=3.0, start="mix")
    awake(model)
    with torch.no_grad():
        for branch in branches(model).values():
            branch.q_proj.weight.mul_(1.1)
    save_branch(model, tmp_path)
    again = tiny(family)
    assert restore_attention(again, tmp_path) is again
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert next(iter(branches(again).values())).config.top_k is None
    remove_krause_branch(again)
    assert torch.equal(again(ids).logits, tiny(family)(ids).logits)


def test_lora_without_a_branch_comes_back(tmp_path: Path) -> None:
    model = tiny("llama")
    model = trained(peft.get_peft_model(model, lora_config(model)))
    save_branch(model, tmp_path)
    again = restore_attention(tiny("llama"), tmp_path)
    assert torch.equal(again(tokens()).logits, model(tokens()).logits)
    assert not branches(again)


def test_what_learns_is_told() -> None:
    model = adapted("llama")
    counts = trainable_parameters(model)
    everything = counts.pop("of all")
    assert counts["branch sigma"] == 2 * 4
    assert counts["branch gamma"] == 2
    assert counts["branch mixing"] == 2 * (2 * 64 + 2)
    assert counts["branch q_proj"] == counts["pretrained q_proj"] == 2 * 16 * (32 + 32)
    assert counts["feed-forward down_proj"] == 2 * 16 * (48 + 32)
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    lines = describe_trainable(model).splitlines()
    assert lines[0].startswith(f"{sum(counts.values()):,} of {everything:,} parameters learn")
    assert any(line.split() == ["branch", "sigma", "8"] for line in lines)


def test_the_control_has_the_same_size() -> None:
    sizes = {}
    for mechanism in ("krause", "softmax"):
        counts = trainable_parameters(adapted("qwen3", mechanism=mechanism))
        counts.pop("of all")
        sizes[mechanism] = counts
    sigma = sizes["krause"].pop("branch sigma")
    assert sizes["krause"] == sizes["softmax"]
    assert sigma == 8


def test_adapters_of_another_configuration_are_refused(tmp_path: Path) -> None:
    save_branch(adapted("llama"), tmp_path)
    with pytest.raises(ValueError, match="saved from a model with model_type = llama"):
        restore_attention(tiny("qwen2"), tmp_path)
    other = tiny("llama")
    add_krause_branch(other)
    with pytest.raises(ValueError, match="has a branch or an adapter already"):
        restore_attention(other, tmp_path)
    description = tmp_path / "krause_branch.json"
    described = json.loads(description.read_text())
    for name, value, says in (
        ("start", "mix", "do not fit its krause_branch.json"),
        ("mechanism", "softmax", "do not fit its krause_branch.json"),
        ("window", 0, "window counts keys"),
        ("widow", 6, "did you mean 'window'"),
    ):
        changed = {**described, "branch": {**described["branch"], name: value}}
        description.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=says):
            restore_attention(tiny("llama"), tmp_path)
    description.write_text(json.dumps(described))
    adapter = tmp_path / "adapter_config.json"
    kept = adapter.read_text()
    adapter.write_text(json.dumps({**json.loads(kept), "modules_to_save": None}))
    with pytest.raises(ValueError, match="they are of different models"):
        restore_attention(tiny("llama"), tmp_path)
    adapter.write_text(kept)
    with pytest.raises(ValueError, match="of the same sizes with other weights"):
        restore_attention(tiny("llama", seed=1), tmp_path)
    description.write_text("{")
    with pytest.raises(ValueError, match=r"krause_branch\.json is damaged"):
        restore_attention(tiny("llama"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        restore_attention(tiny("llama"), tmp_path / "elsewhere")


def test_a_failed_loading_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = tiny("llama")
    add_krause_branch(model)
    save_branch(model, tmp_path)
    (tmp_path / "krause_branch.safetensors").write_bytes(b"no weights")
    other = tiny("llama")
    with pytest.raises(ValueError, match="missing or damaged"):
        restore_attention(other, tmp_path)
    assert not branches(other)
    assert torch.equal(other(tokens()).logits, tiny("llama")(tokens()).logits)


def test_a_trained_branch_keeps_its_projections_under_adapters(tmp_path: Path) -> None:
    model, ids = tiny("llama"), tokens()
    add_krause_branch(model, start="mix")
    with torch.no_grad():
        for branch in branches(model).values():
            branch.v_proj.weight.mul_(2.0)
    adapted = trained(peft.get_peft_model(model, lora_config(model, dropout=0.0)))
    save_branch(adapted, tmp_path)
    again = restore_attention(tiny("llama"), tmp_path)
    assert torch.equal(again(ids).logits, adapted(ids).logits)


def test_what_would_not_come_back_is_not_saved(tmp_path: Path) -> None:
    model = adapted("llama")
    model.merge_adapter()
    with pytest.raises(ValueError, match="unmerge_adapter"):
        save_branch(model, tmp_path)
    model.unmerge_adapter()
    model.add_adapter("second", lora_config(model))
    with pytest.raises(ValueError, match="adapters called default, second"):
        save_branch(model, tmp_path)
    model = tiny("llama")
    plain = lora_config(model)
    add_krause_branch(model)
    with pytest.raises(ValueError, match="make it with lora_config"):
        save_branch(peft.get_peft_model(model, plain), tmp_path)
    merged = trained(adapted("llama")).merge_and_unload()
    save_branch(merged, tmp_path)
    with pytest.raises(ValueError, match="with other weights"):
        restore_attention(tiny("llama"), tmp_path)


def test_the_order_is_branch_then_adapters() -> None:
    model = tiny("llama")
    plain = peft.get_peft_model(model, lora_config(model))
    with pytest.raises(ValueError, match="add the branch first, then the adapters"):
        add_krause_branch(plain)
    with pytest.raises(ValueError, match="neither a branch nor an adapter"):
        save_branch(tiny("llama"), "nowhere")


def test_a_missing_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"needs the package peft .*pip install 'resonant\[llm\]'"):
        lora_config(tiny("llama"))
