"""use_attention on other people's families: guards stay, inputs are made, weights come out."""

from __future__ import annotations

import pytest
import torch
import transformers

from resonant.integrations import drop_attention, use_attention

from .families import GROUPED, TEXT, family
from .tiny import tiny, tokens


@pytest.mark.parametrize("check", [True, False])
def test_attention_that_never_asks_the_interface_is_refused(check: bool) -> None:
    model = family("GPT-J")
    ids = torch.arange(12).unsqueeze(0)
    before = model(ids).logits
    with pytest.raises(ValueError, match="computes attention by itself and not through"):
        use_attention(model, "krause", check=check)
    assert torch.equal(model(ids).logits, before)
    assert not any("resonant" in name for name, _ in model.named_modules())


def test_what_the_untouched_model_fails_too_is_said() -> None:
    certificate = use_attention(family("BERT"), "krause")
    padding = next(v for v in certificate.verdicts if v.check == "padding")  # type: ignore[union-attr]
    assert padding.status == "fails"  # absolute positions, padded on the left
    assert padding.says.endswith("; the untouched model fails this too")


CLASSIFIERS = {
    "llama": lambda: transformers.LlamaForSequenceClassification(
        transformers.LlamaConfig(**GROUPED)
    ),
    "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**TEXT)),
    "distilbert": lambda: transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(vocab_size=64, dim=32, n_layers=2, n_heads=4, hidden_dim=48)
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_are_checked_without_their_heads(name: str) -> None:
    torch.manual_seed(0)
    model = CLASSIFIERS[name]().eval()
    certificate = use_attention(model, "krause")
    assert certificate is not None
    checked = {v.check for v in certificate.verdicts}
    assert checked == ({"causality", "padding", "cache"} if name == "llama" else {"padding"})
    if name == "llama":
        assert certificate.holds
    drop_attention(model)


def test_images_and_sound_are_made_from_the_configuration() -> None:
    certificate = use_attention(family("ViT"), "krause")
    assert "pixel_values" in str(certificate)
    certificate = use_attention(family("Whisper"), "softmax")
    assert [(v.check, v.status) for v in certificate.verdicts] == [("causality", "holds")]  # type: ignore[union-attr]


@pytest.mark.parametrize("mechanism", ["softmax", "krause"])
def test_output_attentions_gives_weights(mechanism: str) -> None:
    model, ids = tiny("llama"), tokens()
    eager = tiny("llama")
    eager.set_attn_implementation("eager")
    expected = eager(ids, output_attentions=True).attentions
    use_attention(model, mechanism, check=False)
    found = model(ids, output_attentions=True)
    assert len(found.attentions) == len(expected) == 2
    for ours, theirs in zip(found.attentions, expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours.sum(-1), torch.ones_like(ours.sum(-1)))
        if mechanism == "softmax":
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert model(ids).attentions is None
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, vocab_size=64, eos_token_id=1, bos_token_id=1
        )
    ).eval()
    use_attention(gpt2, mechanism, check=False)
    assert len(gpt2(ids, output_attentions=True).attentions) == 2
