"""A windowed cache of transformers: the full pass, in memory that does not grow."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from resonant.functional import Causal, Full
from resonant.integrations import add_krause_branch, use_attention, windowed_cache

from .tiny import left_padding, tiny, tokens

CHUNKS = ((0, 11), (11, 14), *((i, i + 1) for i in range(14, 40)))


def windowed(family: str, neighborhood: Any = Causal(5, first=2), **options: Any) -> Any:  # noqa: B008
    model = tiny(family)
    use_attention(model, "krause", neighborhood=neighborhood, sigma=2.0, check=False, **options)
    return model


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("neighborhood", [Causal(5, first=2), Causal(6), Causal(1, first=3)])
def test_decoding_is_the_full_pass(family: str, neighborhood: Causal) -> None:
    model, ids = windowed(family, neighborhood, top_k=4), tokens(length=40)
    whole, sizes = model(ids).logits, []
    cache: Any = windowed_cache(model)
    for start, stop in CHUNKS:
        if start == 20:
            cache.reorder_cache(torch.tensor([2, 0, 1]))
            ids, whole = ids[[2, 0, 1]], whole[[2, 0, 1]]
        mask = torch.ones(len(ids), stop, dtype=torch.long) if start % 2 else None
        given = {"attention_mask": mask, "past_key_values": cache}
        ours = model(ids[:, start:stop], **given).logits
        torch.testing.assert_close(ours, whole[:, start:stop], atol=2e-5, rtol=1e-4)
        sizes.append(cache.nbytes)
    assert cache.get_seq_length() == 40
    held = neighborhood.first + (neighborhood.window or 0) - 1
    assert {layer.keys.shape[2] for layer in cache.layers} == {held}
    assert len(set(sizes)) == 1
    cache.reset()
    assert (cache.get_seq_length(), cache.nbytes) == (0, 0)
    assert torch.equal(model(ids[:, :9], past_key_values=cache).logits, model(ids[:, :9]).logits)


@torch.no_grad()
def test_generate_with_it_says_what_it_says_without() -> None:
    model, ids = windowed("llama"), tokens(rows=2, length=12)
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    options["attention_mask"] = torch.ones_like(ids)  # else a token 0 is taken for padding
    for beams in (1, 2):
        ours = model.generate(
            ids, **options, num_beams=beams, past_key_values=windowed_cache(model)
        )
        assert torch.equal(ours, model.generate(ids, **options, num_beams=beams))


def test_padding_and_going_back_are_refused() -> None:
    model = windowed("llama")
    with pytest.raises(ValueError, match="takes no padding"), torch.no_grad():
        model(tokens(), attention_mask=left_padding(), past_key_values=windowed_cache(model))
    cache = windowed_cache(model)
    with torch.no_grad():
        model(tokens(), past_key_values=cache)
    cache.crop(0)
    with pytest.raises(ValueError, match="cannot take tokens back"):
        cache.crop(-1)


def test_models_without_one_window_are_refused() -> None:
    plain = tiny("llama")
    add_krause_branch(plain)
    half = tiny("llama")
    use_attention(half, "softmax", layers=0, neighborhood=Causal(5), check=False)
    for model in (plain, half, windowed("llama", Full())):
        with pytest.raises(ValueError, match="all attend by ours in one window"):
            windowed_cache(model)
