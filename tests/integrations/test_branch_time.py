"""Time per token of the branch does not grow with the context."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
import transformers

from resonant.integrations import add_krause_branch
from resonant.integrations.branch import blend
from resonant.mechanism import branching


@pytest.mark.slow
def test_time_per_token_is_flat_beyond_that_of_the_softmax_branch() -> None:
    """What the branch adds to a layer, in transformers' own cache, at contexts 256 and 8192."""
    torch.set_num_threads(1)
    sizes: dict[str, Any] = {"hidden_size": 256, "num_attention_heads": 8, "vocab_size": 64}
    sizes |= {"num_key_value_heads": 4, "num_hidden_layers": 1, "intermediate_size": 64}
    config = transformers.LlamaConfig(**sizes)
    hidden, seconds, layers = torch.randn(1, 1, 256), {}, {}
    with torch.no_grad():
        for mechanism in branching():
            model = transformers.LlamaForCausalLM(config).eval()
            add_krause_branch(model, mechanism=mechanism)
            for context in (256, 8192):
                host: Any = model.model.layers[0].self_attn
                cache = transformers.DynamicCache()
                turn = model.model.rotary_emb(hidden, torch.arange(context).unsqueeze(0))
                host(torch.randn(1, context, 256), turn, None, past_key_values=cache)
                layers[mechanism, context] = host, cache
        turn = model.model.rotary_emb(hidden, torch.tensor([[9000]]))  # type: ignore[possibly-unbound]
        output, new = (hidden, None), torch.zeros(1, 4, 1, 32)
        for _ in range(200):
            for key, (host, cache) in layers.items():
                cache.update(new, new, 0)  # as the pretrained attention has done by then
                given = {"hidden_states": hidden, "position_embeddings": turn}
                start = time.process_time()
                blend(host, (), given | {"past_key_values": cache}, output)
                seconds.setdefault(key, []).append(time.process_time() - start)
    median = {key: sorted(each)[len(each) // 2] for key, each in seconds.items()}
    growth = {m: median[m, 8192] / median[m, 256] for m in branching()}
    assert growth["krause"] < 1.3
    assert growth["krause"] / growth["softmax"] < 1.3
    assert median["krause", 8192] < 1.6 * median["softmax", 8192]
