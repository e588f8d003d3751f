"""First keys beside a window in modules and models: caches, padding, documents, linear work."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from resonant.functional import Causal
from resonant.models.language import LanguageModel
from resonant.models.language_configs import AttentionConfig, LanguageModelConfig, PositionConfig
from resonant.models.phase import PhaseLanguageModel
from resonant.models.phase_configs import PhaseLanguageModelConfig
from resonant.nn import AttentionCache, attention

from .enrolled import EMBED, MODULES, made

STAYING = [name for name in MODULES if "first" in name or "successors in a window" in name]
CHUNKS = (0, 5, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26)


def state(length: int = 26) -> Tensor:
    return torch.randn(2, length, EMBED, generator=torch.Generator().manual_seed(0)).double()


def ready(name: str) -> Any:
    return made(name).double().eval()


@torch.no_grad()
@pytest.mark.parametrize("name", STAYING)
@pytest.mark.parametrize("packed", ["none", "padding", "documents"])
def test_cached_in_pieces_is_the_full_pass(name: str, packed: str) -> None:
    module, x = ready(name), state()
    options = {}
    if packed == "padding":
        blocked = torch.zeros(2, 26, dtype=torch.bool)
        blocked[0, :7] = blocked[1, :2] = True
        options["key_padding_mask"] = blocked
    if packed == "documents":
        starts = torch.zeros(2, 26, dtype=torch.long)
        starts[0, [1, 2, 12]] = 1
        starts[1, [10, 18]] = 1
        options["documents"] = starts.cumsum(1)
    whole, _ = module(x, **options)
    cache = module.new_cache()
    for start, stop in itertools.pairwise(CHUNKS):
        parts = {key: given[:, start:stop] for key, given in options.items()}
        ours, _ = module(x[:, start:stop], cache=cache, **parts)
        seen = ours
        if packed == "padding":
            real = ~blocked[:, start:stop]
            seen, theirs = ours[real], whole[:, start:stop][real]
        else:
            theirs = whole[:, start:stop]
        torch.testing.assert_close(seen, theirs, atol=1e-9, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", STAYING)
def test_first_keys_are_seen_whatever_the_distance(name: str) -> None:
    module, x = ready(name), state()
    _, weights = module(x, need_weights=True)
    assert (weights[..., 8:, 0] > 0).any()
    other = x.clone()
    other[:, 0] += 1.0
    moved = (module(other)[0] - module(x)[0]).abs().amax((0, 2))
    assert (moved[10:] > 1e-9).all()


@torch.no_grad()
def test_documents_shorter_than_what_is_kept_are_decoded() -> None:
    label = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [0, 1, 2, 2, 2, 3, 3, 3]])
    module, x = (
        attention("krause", EMBED, 2, neighborhood=Causal(4, first=4)).double().eval(),
        state(8),
    )
    whole, _ = module(x, documents=label)
    for step in (1, 2, 4):
        cache = module.new_cache()
        parts = [
            module(x[:, a : a + step], documents=label[:, a : a + step], cache=cache)[0]
            for a in range(0, 8, step)
        ]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-9, rtol=0)


@torch.no_grad()
def test_padding_of_minus_1e9_is_padding_in_caches_too() -> None:
    module, x = ready("krause window and first"), state(20)
    low = torch.zeros(2, 20, dtype=torch.float64)
    low[:, :5] = -1e9
    alone, _ = module(x[:, 5:])
    whole, _ = module(x, key_padding_mask=low)
    torch.testing.assert_close(whole[:, 5:], alone, atol=1e-9, rtol=0)
    cache = module.new_cache()
    parts = [
        module(x[:, a : a + 4], key_padding_mask=low[:, a : a + 4], cache=cache)[0]
        for a in range(0, 20, 4)
    ]
    torch.testing.assert_close(torch.cat(parts, 1)[:, 5:], alone, atol=1e-9, rtol=0)


@torch.no_grad()
def test_a_cache_of_a_window_and_first_keys_stays_small_and_is_reordered() -> None:
    module, x = ready("krause window and first"), state(400)
    cache = module.new_cache()
    assert isinstance(cache, AttentionCache)
    sizes = []
    for start in range(0, 400, 4):
        module(x[:, start : start + 4], cache=cache)
        sizes.append(cache.nbytes)
    assert max(sizes) == max(sizes[:10])
    order = torch.tensor([1, 0])
    cache.reorder(order)
    more = state(3)
    again = module.new_cache()
    module(x[order], cache=again)
    ours, theirs = (module(more, cache=each)[0] for each in (cache, again))
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("phases", [False, True])
def test_a_model_decodes_with_first_tokens_as_it_reads(phases: bool) -> None:
    chosen = AttentionConfig("kuramoto" if phases else "krause", window=4, first=2)
    torch.manual_seed(0)
    if phases:
        model = PhaseLanguageModel(PhaseLanguageModelConfig(attention=chosen)).double()
    else:
        position = PositionConfig(oscillators=2)
        model = LanguageModel(LanguageModelConfig(attention=chosen, position=position)).double()
    model.eval()
    layer = next(m for m in model.modules() if getattr(m, "neighborhood", None) is not None)
    assert layer.neighborhood == Causal(4, first=2)
    ids = torch.randint(0, 256, (2, 30), generator=torch.Generator().manual_seed(1))
    padding = torch.zeros(2, 30, dtype=torch.bool)
    padding[0, :5] = True
    whole = model(ids, key_padding_mask=padding)
    cache = model.new_cache()
    parts = [
        model(ids[:, a:b], cache=cache, key_padding_mask=padding[:, a:b])
        for a, b in ((0, 12), (12, 13), (13, 14), (14, 30))
    ]
    torch.testing.assert_close(torch.cat(parts, 1)[:, 5:], whole[:, 5:], atol=1e-5, rtol=0)


def test_without_a_window_the_option_is_not_read() -> None:
    assert AttentionConfig(first=3).past == {"window": None, "first": 0}
    assert AttentionConfig(window=8, first=3).past == {"window": 8, "first": 3}
    with pytest.raises(ValueError, match="first must be at least 0"):
        AttentionConfig(window=8, first=-1)
