"""The language model: causality through all layers, presets, and models on disk."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import resonant
from resonant.functional import mechanisms
from resonant.models.fields import from_dict
from resonant.models.language import LanguageModel
from resonant.models.language_configs import PRESETS, AttentionConfig, LanguageModelConfig, preset

CHOICES = [
    AttentionConfig(name, window, top_k)
    for name in sorted(mechanisms())
    for window, top_k in ((None, None), (5, None), (5, 3))
]


def tiny(attention: AttentionConfig) -> LanguageModel:
    torch.manual_seed(0)
    grouped = None if attention.mechanism == "kuramoto" else 2  # heads share out the phases
    config = LanguageModelConfig(
        32, layers=2, width=16, heads=4, key_value_heads=grouped, hidden=24
    )
    return resonant.language_model(config, attention=attention)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_future_changes_no_bit(choice: AttentionConfig) -> None:
    model = tiny(choice).eval()
    tokens = torch.randint(0, 32, (1, 29))
    later = tokens.clone()
    later[:, 17:] = torch.randint(0, 32, (1, 12))
    with torch.no_grad():
        before, after = model(tokens), model(later)
    assert torch.equal(before[:, :17], after[:, :17])
    assert not torch.equal(before[:, 17:], after[:, 17:])


@pytest.mark.parametrize("choice", CHOICES)
def test_padding_on_the_right_changes_nothing_before_it(choice: AttentionConfig) -> None:
    model = tiny(choice).eval()
    tokens = torch.randint(0, 32, (2, 19))
    padded = F.pad(tokens, (0, 6))
    mask = torch.zeros(2, 25, dtype=torch.bool)
    mask[:, 19:] = True
    with torch.no_grad():
        torch.testing.assert_close(model(padded, key_padding_mask=mask)[:, :19], model(tokens))


@pytest.mark.parametrize("choice", CHOICES)
def test_padding_on_the_left_is_as_if_it_were_not_there(choice: AttentionConfig) -> None:
    """Rotary scores see distances alone, so a shift of all positions changes nothing."""
    model = tiny(choice).eval()
    tokens = torch.randint(0, 32, (2, 19))
    padded = F.pad(tokens, (6, 0))
    mask = torch.zeros(2, 25, dtype=torch.bool)
    mask[:, :6] = True
    with torch.no_grad():
        ours = model(padded, key_padding_mask=mask)[:, 6:]
        torch.testing.assert_close(ours, model(tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("choice", CHOICES)
def test_saved_and_loaded_it_is_the_same(choice: AttentionConfig, tmp_path: Path) -> None:
    model = tiny(choice)
    tokens = torch.randint(0, 32, (2, 19))
    model(tokens).sum().backward()  # moves Krause's origin, which must be saved too
    model.save_pretrained(tmp_path)
    loaded = LanguageModel.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded.eval()(tokens), model.eval()(tokens))


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        LanguageModel.from_pretrained(tmp_path)
    model = tiny(AttentionConfig())
    model.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())

    def write(**changes: object) -> None:
        (tmp_path / "config.json").write_text(json.dumps(described | changes))

    write(architecture="Other")
    with pytest.raises(ValueError, match="architecture 'Other', not 'transformer'"):
        LanguageModel.from_pretrained(tmp_path)
    write(widht=3)
    with pytest.raises(ValueError, match="no field 'widht'; did you mean 'width'"):
        LanguageModel.from_pretrained(tmp_path)
    write(layers=3)
    with pytest.raises(ValueError, match="do not fit its config"):
        LanguageModel.from_pretrained(tmp_path)
    write(hidden=32)
    with pytest.raises(ValueError, match="do not fit its config"):
        LanguageModel.from_pretrained(tmp_path)
    write()
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="missing or damaged"):
        LanguageModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_size_of_their_name(name: str) -> None:
    with torch.device("meta"):
        model = LanguageModel(preset(name))
    claimed = float(name.rpartition("-")[2].lower().removesuffix("m"))
    assert abs(sum(p.numel() for p in model.parameters()) / 1e6 / claimed - 1) < 0.1
    assert (PRESETS[name].__doc__ or "").strip()


def test_krause_has_as_many_parameters_but_for_its_widths() -> None:
    plain, krause = (
        resonant.language_model("0.11M", mechanism=name) for name in ("softmax", "krause")
    )
    sizes = [sum(p.numel() for p in model.parameters()) for model in (plain, krause)]
    assert sizes[1] - sizes[0] == 2 * 4  # one width per head and layer


def test_starts_near_a_uniform_guess() -> None:
    torch.manual_seed(0)
    for name in sorted(mechanisms()):
        model = resonant.language_model("0.11M", mechanism=name)
        tokens = torch.randint(0, 256, (4, 64))
        logits = model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(0, 256, (256,)))
        assert abs(loss.item() - 5.545) < 1.0


def test_names_and_fields_are_checked() -> None:
    with pytest.raises(ValueError, match=r"no preset is called '0\.12M'; did you mean '0\.11M'"):
        resonant.language_model("0.12M")
    with pytest.raises(ValueError, match="did you mean 'krause'"):
        resonant.language_model("0.11M", mechanism="krausse")
    with pytest.raises(TypeError, match="layer"):
        resonant.language_model("0.11M", layer=3)
    with pytest.raises(ValueError, match=r"model\.layers must be at least 1; it is 0"):
        resonant.language_model("0.11M", layers=0)
    with pytest.raises(TypeError, match="takes named fields"):
        from_dict(LanguageModelConfig, {"attention": 3})
