"""Our mechanisms as an attention of transformers: masks, corners, gates, the self-test."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import resonant
from resonant.functional import Band, Causal, attend, krause_attention
from resonant.functional.attend import record_paths
from resonant.functional.energy import energy_log_gate
from resonant.integrations import attention_interface as interface
from resonant.integrations import drop_attention, register_attention, use_attention

from .tiny import VARIANTS, decoded, left_padding, tiny, tokens

SETTINGS: dict[str, dict[str, Any]] = {
    "softmax": {"mechanism": "softmax"},
    "krause": {"mechanism": "krause", "sigma": 2.0},
    "krause-window-topk": {
        "mechanism": "krause",
        "sigma": 2.0,
        "neighborhood": Causal(6),
        "top_k": 4,
    },
    "krause-first": {
        "mechanism": "krause",
        "sigma": 2.0,
        "neighborhood": Causal(5, first=2),
        "top_k": 4,
    },
    "sink": {"mechanism": "softmax-sink"},
    "gated": {"mechanism": "softmax", "gate": "prefix"},
    "gated-krause-window": {"mechanism": "krause", "gate": "prefix", "neighborhood": Causal(6)},
    "gated-plainly": {"mechanism": "krause", "gate": "none"},
}
WHOLE = ("gated", "gated-krause-window", "krause-first")  # what needs keys that slide away
SLIDING = [name for name in SETTINGS if name not in WHOLE]
CASES = [(v, s) for v in VARIANTS for s in (SLIDING if "sliding" in v else SETTINGS)]


def set_up(variant: str, setting: str, *, check: bool = False) -> Any:
    model = tiny(variant)
    given = dict(SETTINGS[setting])
    use_attention(model, given.pop("mechanism"), **given, check=check)
    with torch.no_grad():  # gates and widths that differ by head
        for name, parameter in model.named_parameters():
            if ".resonant." in name:
                noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
                parameter.add_(0.3 * noise)
    return model


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request: pytest.FixtureRequest) -> Any:
    return set_up(*request.param)


@pytest.mark.parametrize("static", [False, True], ids=["dynamic", "static"])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "left-padded"])
def test_decoding_is_the_full_pass(case: Any, static: bool, padded: bool) -> None:
    ids, mask = tokens(), left_padding() if padded else None
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    with torch.no_grad():
        full = case(ids, attention_mask=mask).logits
    made = decoded(case, ids, mask, static=static)
    torch.testing.assert_close(made[real], full[real], atol=2e-5, rtol=1e-4)


def test_the_future_changes_nothing(case: Any) -> None:
    ids, other = tokens(), tokens(seed=5)
    for cut in (1, 11, 22):
        replaced = torch.cat([ids[:, :cut], other[:, cut:]], dim=1)
        for mask in (None, left_padding()):
            with torch.no_grad():
                ours = case(ids, attention_mask=mask).logits[:, :cut]
                theirs = case(replaced, attention_mask=mask).logits[:, :cut]
            assert torch.equal(ours, theirs)


def test_padding_on_either_side_changes_nothing(case: Any) -> None:
    ids, mask = tokens(), left_padding()
    for left in (True, False):
        here = mask if left else mask.flip(1)
        with torch.no_grad():
            batch = case(ids, attention_mask=here).logits
            for row in range(3):
                taken = here[row].bool()
                place = torch.arange(23)[taken].unsqueeze(0)
                alone = case(ids[row : row + 1, taken], position_ids=place, use_cache=True).logits
                torch.testing.assert_close(batch[row, taken], alone[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generate_with_beams(case: Any, cache: str) -> None:
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, :4] = 0
    options: dict[str, Any] = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
    options |= {"num_beams": 3, "pad_token_id": 0, "eos_token_id": None}
    slow = case.generate(tokens(length=9), **options, use_cache=False)
    assert torch.equal(slow, case.generate(tokens(length=9), **options, cache_implementation=cache))


@pytest.mark.parametrize("variant", VARIANTS)
def test_softmax_is_what_the_model_did_and_dropping_restores_it(variant: str) -> None:
    model, ids, mask = tiny(variant), tokens(), left_padding()
    before = model(ids, attention_mask=mask).logits
    weights = {name: x.clone() for name, x in model.state_dict().items()}
    certificate = use_attention(model, "softmax")
    assert certificate is not None
    assert [v.status for v in certificate.verdicts] == ["holds"] * 3
    after = model(ids, attention_mask=mask).logits
    torch.testing.assert_close(after[mask.bool()], before[mask.bool()], atol=2e-5, rtol=1e-4)
    assert drop_attention(model) == ["model.layers.0.self_attn", "model.layers.1.self_attn"]
    assert torch.equal(model(ids, attention_mask=mask).logits, before)
    assert model.config._attn_implementation == "sdpa"
    assert weights.keys() == model.state_dict().keys()


def heads_of(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """What reached the first layer's attention: query, key, value, and what left it."""
    host, seen = model.model.layers[0].self_attn, {}

    def spy(module: nn.Module, *tensors: Any, **options: Any) -> Any:
        output = interface.attention_forward(module, *tensors, **options)
        if module is host:
            seen.update(zip(("query", "key", "value"), tensors, strict=False), output=output[0])
        return output

    transformers.AttentionInterface.register("resonant", spy)
    try:
        model(ids)
    finally:
        register_attention()
    return seen


def test_krause_is_krause_and_takes_the_linear_path() -> None:
    model = set_up("llama", "krause-window-topk")
    with record_paths() as paths, torch.no_grad():
        heads = heads_of(model, tokens())
    assert set(paths) == {"banded"}
    own = model.model.layers[0].self_attn.resonant
    options = {"neighborhood": Causal(6), "top_k": 4}
    direct = krause_attention(
        heads["query"], heads["key"], heads["value"], own.scalars["sigma"](), **options
    )
    torch.testing.assert_close(heads["output"], direct.transpose(1, 2))


def test_the_gate_is_of_the_projected_values() -> None:
    model = set_up("qwen2", "gated")
    with record_paths() as paths, torch.no_grad():
        heads = heads_of(model, tokens())
        gate = model.model.layers[0].self_attn.resonant.gate
        energy = gate.energy(heads["value"].transpose(1, 2).flatten(2)).mT
        bias = energy_log_gate(energy, gate.alpha(), gate.tau())
        lift = resonant.Lift(heads["query"] / 8**0.5, heads["key"], heads["value"], bias)
        direct = attend(lift, Causal())
    assert set(paths) == {"fused"}
    torch.testing.assert_close(heads["output"], direct.transpose(1, 2), atol=1e-5, rtol=1e-4)


def test_scalars_learn_and_are_saved() -> None:
    model, ids = set_up("llama", "gated-krause-window").train(), tokens()
    model(ids, labels=ids).loss.backward()
    learned = {n: p for n, p in model.named_parameters() if ".resonant." in n}
    assert {n.split(".resonant.")[1] for n in learned} == {
        "scalars.sigma.value",
        "gate.energy.weight",
        "gate.alpha.value",
        "gate.tau.value",
    }
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned.values())
    again = set_up("llama", "gated-krause-window")
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids).logits, model.eval()(ids).logits)


def test_layers_and_encoders() -> None:
    model = tiny("llama")
    use_attention(model, "krause", layers=-1, check=False)
    assert not hasattr(model.model.layers[0].self_attn, "resonant")
    assert hasattr(model.model.layers[1].self_attn, "resonant")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**sizes, intermediate_size=16, vocab_size=32)  # type: ignore[arg-type]
    bert = transformers.BertModel(config).eval()
    ids = tokens(2, 12) % 32
    before = bert(ids).last_hidden_state
    certificate = use_attention(bert, "softmax")
    assert certificate is not None
    # Its absolute positions count padding on the left: no fault of the attention.
    assert [(v.check, v.status) for v in certificate.verdicts] == [("padding", "fails")]
    torch.testing.assert_close(bert(ids).last_hidden_state, before, atol=1e-5, rtol=1e-4)
    drop_attention(bert)
    use_attention(bert, "softmax", neighborhood=Band(2), check=False)
    far = ids.clone()
    far[:, 9:] = (far[:, 9:] + 1) % 32
    assert torch.equal(bert(ids).last_hidden_state[:, :7], bert(far).last_hidden_state[:, :7])


def test_without_our_masks_the_self_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that the certificate is for: no mask function, so padding is lost."""

    def none(**_: Any) -> None:
        return None

    monkeypatch.setattr(interface, "attention_mask", none)
    model = tiny("llama")
    with pytest.raises(ValueError, match=r"(?s)fails its self-test and was put back.*padding"):
        use_attention(model, "krause")
    monkeypatch.undo()
    register_attention()
    assert model.config._attn_implementation == "sdpa"
    assert not any("resonant" in name for name, _ in model.named_modules())


def test_what_is_refused() -> None:
    model = tiny("qwen2-sliding")
    with pytest.raises(ValueError, match="its cache forgets keys"):
        use_attention(model, "softmax", gate="prefix")
    for options, says in (
        ({"gate": "sequence"}, "gate is prefix, none"),
        ({"layers": 5}, "no layer 5"),
        ({"layers": "*.cross"}, "no attention is called"),
        ({"top_k": 0}, "top_k counts"),
    ):
        with pytest.raises(ValueError, match=says):
            use_attention(model, "softmax", **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="did you mean 'sigma'"):
        use_attention(model, "krause", sigmas=2.0)
    with pytest.raises(ValueError, match="couples phases"):
        use_attention(model, "kuramoto")
    with pytest.raises(ValueError, match="no attention mechanism is called"):
        use_attention(model, "krausse")
    with pytest.raises(ValueError, match="is no model of transformers"):
        use_attention(nn.Linear(2, 2), "krause")
    with pytest.raises(ValueError, match="attends by ours"):
        drop_attention(model)
    use_attention(model, "krause", check=False)
    with pytest.raises(ValueError, match="ours already"):
        use_attention(model, "softmax")


def test_hosts_that_scale_otherwise_stay_what_they_were() -> None:
    small: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    small |= {"vocab_size": 64}
    grouped = small | {"num_key_value_heads": 1, "intermediate_size": 32}
    opt = {"ffn_dim": 32, "word_embed_proj_dim": 32, "max_position_embeddings": 160}
    gpt = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 64, "n_positions": 160}
    for kind, sizes in (
        ("Granite", grouped | {"attention_multiplier": 0.9}),
        ("OPT", small | opt),
        ("GPT2", gpt | {"scale_attn_by_inverse_layer_idx": True}),
        ("Mistral", grouped),
    ):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**sizes)
        heads = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
        model = getattr(transformers, heads)(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(3.0)
            before = model(tokens()).logits
            use_attention(model, "softmax")
            torch.testing.assert_close(model(tokens()).logits, before, atol=1e-4, rtol=1e-4)


def test_a_bias_by_position_is_not_left_out() -> None:
    config = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=64
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.set_attn_implementation(register_attention())
    with pytest.raises(ValueError, match="T5Attention has a bias by position"):
        model(input_ids=tokens(), decoder_input_ids=tokens())


def test_a_second_use_that_fails_leaves_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    use_attention(model, "krause", layers=0, check=False)

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr(interface, "self_test", fails)
    with pytest.raises(ValueError, match="no"):
        use_attention(model, "krause", layers=1)
    assert hasattr(model.model.layers[0].self_attn, "resonant")
    assert not hasattr(model.model.layers[1].self_attn, "resonant")
    assert model.config._attn_implementation == "resonant"


def test_what_softmax_is_not_all_of_is_refused() -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 1, "intermediate_size": 16, "vocab_size": 32, "head_dim": 8}
    gemma = transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**sizes)).eval()
    before = gemma(tokens(1, 8) % 32).logits
    with pytest.raises(ValueError, match="has caps on logits"):
        use_attention(gemma, "krause")
    assert torch.equal(gemma(tokens(1, 8) % 32).logits, before)
