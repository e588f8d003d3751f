"""Tiny random Llama, Qwen2 and Qwen3, and what is done to them in several tests."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from resonant.integrations import branches

FAMILIES = ("llama", "qwen2", "qwen3")
VARIANTS = (*FAMILIES, "qwen2-sliding")
VOCABULARY, LENGTH = 64, 23
WINDOW = 6  # of branches here: shorter than prompts and chunks


def tiny(variant: str, seed: int = 0) -> Any:
    """A model of two layers, in which four query heads share two key heads."""
    family, _, sliding = variant.partition("-")
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    }
    if family == "qwen3":
        sizes["head_dim"] = 16  # other than hidden_size / heads
    if sliding:
        sizes |= {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
    name = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[family]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**sizes)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():  # at the usual start attention looks everywhere alike
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4.0)
    return model


def tokens(rows: int = 3, length: int = LENGTH, seed: int = 1) -> Tensor:
    """Random token ids: of zeros or one repeated token all caches are right."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (rows, length), generator=generator)


def left_padding(rows: int = 3, length: int = LENGTH) -> Tensor:
    """1 where a token is, with 5, 9, 0, 0 ... of padding before."""
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[0, :5], mask[1, :9] = 0, 0
    return mask


def awake(model: Any) -> None:
    """Branches that have a share, with widths at which top-k decides something."""
    with torch.no_grad():
        for branch in branches(model).values():
            if hasattr(branch, "gamma"):
                branch.gamma.value.fill_(1.5)
            if hasattr(branch, "sigma"):
                branch.sigma.value.copy_(torch.linspace(-0.5, 1.0, len(branch.sigma.value)))
            branch.mixing.weight.normal_(generator=torch.Generator().manual_seed(2))
            branch.mixing.bias.copy_(torch.tensor([0.0, 1.0]))


@torch.no_grad()
def decoded(model: Any, ids: Tensor, mask: Tensor | None, *, static: bool = False) -> Tensor:
    """Logits of a prompt longer than the window, a chunk, then token by token, rows reordered.

    Reordered half-way as beams are, and put back in the order of ``ids``.
    """
    cache: Any = None
    if static:
        cache = transformers.StaticCache(model.config, max_cache_len=40)
    order = torch.arange(len(ids))
    logits = []
    steps = [(0, 11), (11, 14), *((i, i + 1) for i in range(14, ids.shape[1]))]
    for start, stop in steps:
        if start == 16:
            turn = torch.arange(len(ids)).roll(1)
            cache.reorder_cache(turn)
            order = order[turn]
        seen = None if mask is None else mask[order][:, :stop]
        output = model(
            ids[order][:, start:stop], attention_mask=seen, past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        logits.append(output.logits[order.argsort()])
    return torch.cat(logits, dim=1)
