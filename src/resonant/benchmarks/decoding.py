"""What a token costs a language model of transformers, by context and attention.

Tokens one by one, one row, after contexts of several lengths: elapsed time, bytes of the cache, and
the loss there of a text.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional import Causal
from ..integrations import drop_attention, use_attention, windowed_cache

TOKENS, ROUNDS = 16, 3  # decoded after a context at once, and how often
COUNTED = 128  # tokens after a context whose loss is taken
Report = Callable[[int], None]


@dataclass(frozen=True)
class Way:
    """A way to attend: the model's own, or ``mechanism`` in a window with ``first`` tokens kept."""

    name: str
    mechanism: str | None = None
    neighborhood: Causal | None = None


@dataclass(frozen=True)
class Price:
    """What a token costs after ``context`` tokens; ``loss`` in nats a token, where a text was."""

    way: str
    context: int
    tokens_per_second: float
    cache_bytes: int
    loss: float | None


def ways(keys: int, first: int) -> tuple[Way, ...]:
    """List all keys, and ``keys`` of them: the last ones, or the ``first`` and the last ones."""
    near, kept = Causal(keys), Causal(keys - first, first=first)
    said = f"{keys - first} keys and the first {first}"
    return (
        Way("all keys"),
        Way(f"{keys} keys", "softmax", near),
        Way(said, "softmax", kept),
        Way(f"Krause, {keys} keys", "krause", near),
        Way(f"Krause, {said}", "krause", kept),
    )


@contextmanager
def attending(model: Any, way: Way) -> Iterator[None]:
    """Let ``model`` attend by ``way`` inside the block, with no scalar learned.

    Krause attention then scores as softmax does, but for the lengths of keys.
    """
    if way.mechanism is None or way.neighborhood is None:
        yield
        return
    scalars = {"sigma": _width(model) ** 0.25} if way.mechanism == "krause" else {}
    use_attention(model, way.mechanism, neighborhood=way.neighborhood, check=False, **scalars)
    try:
        yield
    finally:
        drop_attention(model)


def _width(model: Any) -> int:
    config = model.config.get_text_config()
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


@torch.no_grad()
def price_list(
    model: Any,
    contexts: Sequence[int],
    offered: Sequence[Way],
    *,
    text: Tensor | None = None,
    report: Report = lambda done: None,
) -> list[Price]:
    """Measure the prices of ``contexts`` in every way that is ``offered``.

    ``text`` (piece, token) are ids, each piece at least ``max(contexts) + 128`` long; without them
    there is no loss. ``report`` is called with the count of ways done. Ways take turns.
    """
    caches: dict[str, dict[int, Any]] = {}
    losses: dict[str, dict[int, float]] = {}
    for done, way in enumerate(offered, start=1):
        with attending(model, way):
            caches[way.name] = {n: _filled(model, way, n) for n in contexts}
            losses[way.name] = {} if text is None else _losses(model, contexts, text)
        report(done)
    held = {name: {n: _bytes(c) for n, c in by.items()} for name, by in caches.items()}
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for way in offered:
            with attending(model, way):
                for n in contexts:
                    spent = _decoded(model, caches[way.name][n])
                    seconds.setdefault((way.name, n), []).append(spent)
    return [
        Price(name, n, TOKENS / statistics.median(each), held[name][n], losses[name].get(n))
        for (name, n), each in seconds.items()
    ]


def _filled(model: Any, way: Way, context: int) -> Any:
    """Make a cache after ``context`` tokens, and decode once to warm up."""
    from transformers import DynamicCache

    cache: Any = DynamicCache() if way.neighborhood is None else windowed_cache(model)
    ids = torch.randint(model.config.vocab_size, (1, context), generator=_generator())
    model(ids[:, :-TOKENS], past_key_values=cache, logits_to_keep=1)
    _decoded(model, cache)
    return cache


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _decoded(model: Any, cache: Any) -> float:
    """Measure the seconds that so many tokens take, one by one."""
    token = torch.zeros(1, 1, dtype=torch.long)
    started = time.perf_counter()
    for _ in range(TOKENS):
        model(token, past_key_values=cache)
    return time.perf_counter() - started


def _bytes(cache: Any) -> int:
    held = [x for layer in cache.layers for x in (layer.keys, layer.values)]
    return sum(x.numel() * x.element_size() for x in held)


def _losses(model: Any, contexts: Sequence[int], text: Tensor) -> dict[int, float]:
    """Compute the mean loss of the tokens after each context, over pieces read whole."""
    found: dict[int, list[Tensor]] = {n: [] for n in contexts}
    for piece in text:
        for n in contexts:
            _check_length(piece, n)
        places = torch.cat([torch.arange(n - 1, n - 1 + COUNTED) for n in contexts])
        logits = model(piece[None], use_cache=False, logits_to_keep=places).logits[0].float()
        each = F.cross_entropy(logits, piece[places + 1], reduction="none")
        for n, losses in zip(contexts, each.split(COUNTED), strict=True):
            found[n].append(losses.mean())
    return {n: float(torch.stack(losses).mean()) for n, losses in found.items()}


def _check_length(piece: Tensor, context: int) -> None:
    if len(piece) < context + COUNTED:
        raise ValueError(
            f"a piece of {len(piece)} tokens is too short for a context of {context} and the "
            f"{COUNTED} after it"
        )
