"""Models whose heads listen by reference oscillators: caches, padding, documents, saving."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from resonant.functional import Causal, attention_weights, softmax_lift
from resonant.lab.kit.config import TrainingConfig
from resonant.lab.kit.optimizer import build_optimizer
from resonant.models.language import LanguageModel, language_model
from resonant.models.language_configs import AttentionConfig, LanguageModelConfig, PositionConfig
from resonant.models.phase import PhaseLanguageModel
from resonant.models.phase_configs import PhaseLanguageModelConfig
from resonant.nn import BiasedRotaryPosition, KuramotoAttention, OscillatorPosition
from resonant.testing import assert_cache, assert_causal, assert_padding

SIZES: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "hidden": 24}
KINDS = ("rotary", "rotary-biased", "morlet-relative", "sinusoidal", "none")
ATTENTION = {
    "softmax": AttentionConfig(),
    "krause-window": AttentionConfig(mechanism="krause", window=5, top_k=3),
    "gate": AttentionConfig(gate="energy"),
}


def build(kind: str = "rotary", attention: str = "softmax", **changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    config = LanguageModelConfig(
        32,
        **SIZES,
        key_value_heads=2,
        position=PositionConfig(kind, oscillators=3),
        attention=ATTENTION[attention],
        **changes,
    )
    return stirred(LanguageModel(config))


def phases(kind: str = "rotary", **options: Any) -> PhaseLanguageModel:
    torch.manual_seed(0)
    options |= {"position": PositionConfig(kind, oscillators=3)}
    return stirred(PhaseLanguageModel(PhaseLanguageModelConfig(32, **SIZES, **options)))


def stirred(model: Any) -> Any:
    """Weights and waves that make every mistake visible."""
    for module in model.modules():
        if isinstance(module, BiasedRotaryPosition):
            torch.nn.init.normal_(module.query_bias.value)
        if isinstance(module, OscillatorPosition):
            torch.nn.init.normal_(module.amplitude.value)
        if isinstance(module, KuramotoAttention) and module.own_score is not None:
            torch.nn.init.normal_(module.own_score.weight)
    return model.double().eval()


MODELS = {
    **{f"{kind} {name}": (build, kind, name) for kind in KINDS for name in ATTENTION},
    **{f"phases {kind}": (phases, kind) for kind in ("rotary", "none")},
    "phases threshold": (partial(phases, self_score="threshold"),),
    "phases key gate": (partial(phases, key_gate=True, score_block="next"),),
    "phases kernel": (partial(phases, self_score="threshold", kernel=2),),
    "phases next block": (partial(phases, score_block="next"),),
    "phases successors": (partial(phases, self_score="threshold", successors=True),),
}


@pytest.mark.parametrize("name", MODELS)
def test_causal_cached_and_padded_as_without(name: str) -> None:
    make, *options = MODELS[name]
    model = make(*options)
    ids = torch.randint(32, (2, 23), generator=torch.Generator().manual_seed(1))
    assert_causal(model, ids)
    assert_padding(model, ids)
    assert_cache(model, ids)


def test_documents_of_one_row_are_each_alone() -> None:
    model = build()
    ids = torch.randint(32, (1, 12))
    packed = model(ids, documents=torch.tensor([[0] * 5 + [1] * 7]))
    torch.testing.assert_close(packed[:, 5:], model(ids[:, 5:]), atol=1e-12, rtol=1e-12)


def test_without_oscillators_nothing_is_added_and_with_them_two_numbers_each() -> None:
    plain = language_model("0.11M")
    waves = language_model("0.11M", position=PositionConfig(oscillators=8))
    more = {n for n, _ in waves.named_parameters()} - {n for n, _ in plain.named_parameters()}
    assert {name.split(".")[-2] for name in more} == {"amplitude", "phase"}
    count = sum(p.numel() for p in waves.parameters()) - sum(p.numel() for p in plain.parameters())
    assert count == 2 * 2 * 4 * 8  # layers, a and phi, heads, oscillators


def test_weight_decay_pulls_no_delay_and_no_amplitude_to_zero() -> None:
    """They are matrices, by head and oscillator, and learned numbers all the same."""
    model = build("rotary-biased")
    decayed = build_optimizer(model, TrainingConfig()).param_groups[0]["params"]
    kept = {id(parameter) for parameter in decayed}
    names = {name.split(".")[-2] for name, p in model.named_parameters() if id(p) in kept}
    assert {"q_proj", "up_proj"} <= names
    assert not names & {"amplitude", "phase", "query_bias", "key_bias"}


def test_heads_begin_by_looking_their_delays_back() -> None:
    """With equal tokens, a head's largest weight lies as many tokens back as its delay."""
    position = OscillatorPosition(4, amplitude=3.0)
    same = torch.ones(1, 4, 30, 8)
    places = torch.arange(30)
    weights = attention_weights(
        position.place(softmax_lift(same, same, same), places, places), Causal()
    )
    assert (29 - weights[0, :, -1].argmax(-1)).tolist() == [0, 1, 2, 4]


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = build().float()
    model.save_pretrained(tmp_path)
    again = LanguageModel.from_pretrained(tmp_path).eval()
    ids = torch.randint(32, (1, 9))
    assert torch.equal(model(ids), again(ids))
    assert again.config.position.oscillators == 3


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.position\.oscillators must be at least 0"):
        PositionConfig(oscillators=-1)
    with pytest.raises(ValueError, match=r"one whole number of tokens a head \(4\)"):
        OscillatorPosition(4, delays=(0, 1))
    with pytest.raises(ValueError, match="each at least 0"):
        OscillatorPosition(2, delays=(0, -1))
