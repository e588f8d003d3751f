"""Continuing sequences of tokens with a cache."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..nn.modes import evaluating
from .base import CausalModel


def generate(
    model: CausalModel,
    tokens: Int[Tensor, "batch prompt"],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    key_padding_mask: Bool[Tensor, "batch prompt"] | None = None,
    stop_token: int | None = None,
    context: int | None = None,
    prefill: int | None = None,
) -> Int[Tensor, "batch total"]:
    """The prompts with up to ``max_new_tokens`` further tokens each, (batch, prompt + new).

    A token is drawn from ``softmax(logits / temperature)``; ``temperature`` 0 takes the likeliest
    (greedy). ``top_k`` keeps the k likeliest first, ``top_p`` then the fewest likeliest whose
    probabilities reach p. ``seed`` makes the draws repeat. Prompts of several lengths are padded on
    the left, ``key_padding_mask`` True = padding. A row that drew ``stop_token`` is filled up with
    it; when all have, generation ends early.

    ``context`` is the longest sequence the model is shown (what it was trained on, say): beyond it,
    it goes on from the last half. ``prefill`` reads the prompt in pieces of so many tokens, for
    prompts whose attention in one piece is too large. The model is in evaluation meanwhile.

    Raises ``ValueError`` for an empty prompt, one without a real last token, and numbers out of
    range.
    """
    _check(tokens, key_padding_mask, max_new_tokens, context=context, prefill=prefill)
    check_choice_of_token(temperature, top_k, top_p)
    generator = None
    if seed is not None:
        generator = torch.Generator(device=tokens.device).manual_seed(seed)
    with evaluating(model):
        drawn = _Sampler(model, tokens, key_padding_mask, context=context, prefill=prefill)
        stopped = torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        for _ in range(max_new_tokens):
            logits = drawn.next_logits()
            chosen = choose_token(
                logits, temperature, top_k=top_k, top_p=top_p, generator=generator
            )
            if stop_token is not None:
                chosen = chosen.masked_fill(stopped, stop_token)
                stopped |= chosen == stop_token
            drawn.append(chosen)
            if stop_token is not None and bool(stopped.all()):
                break
    return drawn.tokens


def choose_token(
    logits: Float[Tensor, "batch vocabulary"],
    temperature: float,
    *,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch"]:
    """One token a row, drawn as ``generate`` says."""
    if temperature == 0.0:
        return logits.argmax(-1)
    logits = logits.float()
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        kth = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    probabilities = logits.softmax(-1)
    if top_p is not None and top_p < 1.0:
        ordered, index = torch.sort(probabilities, dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # what likelier tokens have already
        ordered = ordered.masked_fill(before >= top_p, 0.0)
        probabilities = torch.zeros_like(ordered).scatter(-1, index, ordered)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)


def check_choice_of_token(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ``ValueError`` for numbers that make no distribution."""
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(
            f"temperature must be at least 0 (0 takes the likeliest token); it is {temperature}"
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k counts the tokens to keep, so it is at least 1; it is {top_k}")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p is a probability in (0, 1]; it is {top_p}")


def _check(
    tokens: Tensor,
    padding: Tensor | None,
    max_new_tokens: int,
    *,
    context: int | None,
    prefill: int | None,
) -> None:
    if tokens.dim() != 2 or (padding is not None and padding.shape != tokens.shape):
        shape = None if padding is None else tuple(padding.shape)
        raise ValueError(
            f"tokens and key_padding_mask have the shape (batch, prompt), but they are "
            f"{tuple(tokens.shape)} and {shape}"
        )
    if tokens.shape[1] == 0:
        raise ValueError("the prompt is empty; give at least one token, a start token for instance")
    if padding is not None and bool(padding[:, -1].any()):
        raise ValueError(
            "a prompt ends in padding; pad prompts of several lengths on the left, so that the "
            "last token of each is real"
        )
    least = {
        "max_new_tokens": (max_new_tokens, 0),
        "context": (context, 2),
        "prefill": (prefill, 1),
    }
    for name, (value, bound) in least.items():
        if value is not None and value < bound:
            raise ValueError(f"{name} must be at least {bound}; it is {value}")


class _Sampler:
    """Tokens so far, and the model's logits for the next, by a cache."""

    def __init__(
        self,
        model: CausalModel,
        tokens: Tensor,
        padding: Tensor | None,
        *,
        context: int | None,
        prefill: int | None,
    ) -> None:
        self.model, self.tokens, self.padding = model, tokens, padding
        self.context, self.prefill = context, prefill
        self._start_from(0 if context is None else max(0, tokens.shape[1] - context))

    def _start_from(self, start: int) -> None:
        self.cache = self.model.new_cache()
        self.read = start  # tokens before this one are in the cache, or forgotten

    def next_logits(self) -> Tensor:
        length = self.tokens.shape[1]
        if self.context is not None and self.cache.length + length - self.read > self.context:
            self._start_from(length - self.context // 2)
        step = self.prefill or length
        logits = None
        for start in range(self.read, length, step):
            piece = slice(start, min(start + step, length))
            mask = None if self.padding is None else self.padding[:, piece]
            mask = None if mask is None or not bool(mask.any()) else mask
            logits = self.model(self.tokens[:, piece], key_padding_mask=mask, cache=self.cache)
        self.read = length
        assert logits is not None
        return logits[:, -1]

    def append(self, chosen: Tensor) -> None:
        self.tokens = torch.cat([self.tokens, chosen.unsqueeze(1)], dim=1)
        if self.padding is not None:
            real = self.padding.new_zeros(len(chosen), 1)
            self.padding = torch.cat([self.padding, real], dim=1)
