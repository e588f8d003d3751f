"""What is measured: steps by name, each a forward and a backward in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

import resonant
from resonant.functional import Causal, attend, krause_lift
from resonant.functional.attend import Path

from .plain_model import PlainModel

THREADS = 2
Step = Callable[[], object]


def set_threads(count: int) -> None:
    """Compute on ``count`` threads."""
    torch.set_num_threads(count)


def _tensors(batch: int, length: int) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, 8, length, 64, requires_grad=True) for _ in range(3)]


def sdpa(batch: int, length: int) -> Step:
    """Fused causal SDPA, the yardstick."""
    query, key, value = _tensors(batch, length)

    def step() -> None:
        F.scaled_dot_product_attention(query, key, value, is_causal=True).sum().backward()

    return step


def krause(
    batch: int,
    length: int,
    window: int | None = None,
    top_k: int | None = None,
    path: Path | None = None,
) -> Step:
    """Krause attention, causal."""
    query, key, value = _tensors(batch, length)
    sigma = torch.full((8,), 8.0, requires_grad=True)

    def step() -> None:
        lift = krause_lift(query, key, value, sigma)
        attend(lift, Causal(window), top_k=top_k, path=path or "auto").sum().backward()

    return step


def language_step(model: torch.nn.Module) -> Step:
    """A training step of a language model, optimiser included."""
    torch.manual_seed(0)
    tokens = torch.randint(0, 256, (16, 129))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        logits = model(tokens[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours() -> Step:
    """The 0.8M baseline of this library, over bytes."""
    return language_step(resonant.language_model("0.8M", vocabulary=256))


def plain() -> Step:
    """The same in plain PyTorch."""
    return language_step(PlainModel(256, 4, 128, 4, 344))


CASES: dict[str, Callable[[], Step]] = {
    "sdpa-1024": partial(sdpa, 4, 1024),
    "sdpa-4096": partial(sdpa, 1, 4096),
    "krause-1024": partial(krause, 4, 1024),
    "krause-4096": partial(krause, 1, 4096),
    "krause-4096-materialized": partial(krause, 1, 4096, path="materialized"),
    "window-4096": partial(krause, 1, 4096, 128),
    "window-16384": partial(krause, 1, 16384, 128),
    "topk-4096": partial(krause, 1, 4096, 128, 96),
    "topk-16384": partial(krause, 1, 16384, 128, 96),
    "model": ours,
    "plain-model": plain,
}
