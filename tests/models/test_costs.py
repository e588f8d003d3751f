"""Costs counted from configurations are those of the models themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from resonant.models.architectures import build_model
from resonant.models.costs import token_cost
from resonant.models.language_configs import PRESETS, AttentionConfig, LanguageModelConfig, preset

CASES = {
    "plain": LanguageModelConfig(),
    "grouped": LanguageModelConfig(key_value_heads=2, layers=3),
    "krause": LanguageModelConfig(attention=AttentionConfig(mechanism="krause")),
}


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_of_every_preset(name: str) -> None:
    config = preset(name)
    with torch.device("meta"):
        model = build_model(config)
    assert token_cost(config, 8).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["100m", "200m"])
def test_twins_differ_in_the_mechanism_alone(name: str) -> None:
    krause, softmax = (dataclasses.asdict(preset(f"{m}-{name}")) for m in ("krause", "softmax"))
    assert krause["attention"].pop("mechanism") == "krause"
    assert softmax["attention"].pop("mechanism") == "softmax"
    assert krause == softmax
    costs = [token_cost(preset(f"{m}-{name}"), 2048) for m in ("krause", "softmax")]
    assert costs[0].parameters / costs[1].parameters == pytest.approx(1, abs=1e-4)
    assert costs[0].parameters / 1e8 == pytest.approx(int(name[0]), rel=0.12)


def counted(model: Any, tokens: torch.Tensor, **options: Any) -> int:
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(tokens, **options)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", CASES)
def test_flops_are_those_that_a_counter_counts(name: str) -> None:
    config, context = CASES[name], 64
    model = build_model(config).eval()
    cost = token_cost(config, context)
    tokens = torch.arange(context).unsqueeze(0) % config.vocabulary
    with torch.no_grad():
        whole = counted(model, tokens)
        cache = model.new_cache()
        model(tokens[:, :-1], cache=cache)
        last = counted(model, tokens[:, -1:], cache=cache)
    head = config.width // config.heads
    lifted = head + (name == "krause")
    # The counter sees every key, causal or not; the kernel takes values as wide as keys.
    of_keys = 2 * config.layers * config.heads * context
    assert last == cost.decoding_flops + of_keys * (lifted - head)
    wide = context * (cost.training_flops / 3 + of_keys * (lifted + head) / 2)
    assert whole == pytest.approx(wide + context * of_keys * (lifted - head), rel=1e-6)


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("mechanism", ["softmax", "krause"])
def test_caches_hold_what_is_said(mechanism: str, window: int | None) -> None:
    attention = AttentionConfig(mechanism=mechanism, window=window)
    config, context = LanguageModelConfig(attention=attention, key_value_heads=2), 64
    model = build_model(config).eval()
    cache: Any = model.new_cache()
    with torch.no_grad():
        for token in range(context):
            model(torch.tensor([[token]]), cache=cache)
    said = token_cost(config, context).cache_bytes
    # Buffers double, so they may be larger than what they hold; never twice as large.
    assert 0.9 * said <= cache.nbytes <= 2.1 * said
    longer = token_cost(config, 2 * context).cache_bytes
    assert longer == (2 * said if window is None else said)
