"""Models of other people, sound and unsound, for the checks to tell apart."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resonant.functional import Causal, Full
from resonant.lab.kit.plugins import import_plugins
from resonant.lab.text.energy_gate import LEAKING_GATE
from resonant.models.language import LanguageModel
from resonant.models.language_configs import AttentionConfig, LanguageModelConfig, PositionConfig
from resonant.nn import KrauseAttention

import_plugins((LEAKING_GATE,))
WIDTH = 16


def encoder(**options: Any) -> nn.TransformerEncoder:
    """PyTorch's own encoder: bidirectional unless it is given a mask."""
    torch.manual_seed(0)
    settings = {"d_model": WIDTH, "nhead": 2, "dim_feedforward": 32, "batch_first": True}
    layer = nn.TransformerEncoderLayer(**(settings | options))
    return nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)


class MaskedEncoder(nn.Module):
    """The same, made causal by a mask of the right size."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.encoder = encoder(**options)

    def forward(self, x: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        if src_key_padding_mask is not None:  # one row sees nothing under left padding
            padding = src_key_padding_mask
            mask = mask | padding.unsqueeze(1)
            mask = mask & ~torch.eye(x.shape[1], dtype=torch.bool)
            mask = mask.repeat_interleave(2, dim=0)
        return self.encoder(x, mask=mask)


def language_model(**attention: Any) -> LanguageModel:
    """Ours, with weights that make every mistake visible."""
    torch.manual_seed(0)
    position = PositionConfig(kind="morlet-relative", locality=3.7)
    config = LanguageModelConfig(
        32, layers=2, width=WIDTH, heads=4, hidden=24, position=position,
        attention=AttentionConfig(**attention),
    )  # fmt: skip
    model = LanguageModel(config)
    nn.init.normal_(model.embedding.weight)
    return model


def ours() -> LanguageModel:
    """Krause with window, top-k and gate."""
    return language_model(mechanism="krause", window=7, top_k=4, gate="energy")


def leaking() -> LanguageModel:
    """Ours with the gate as published."""
    return language_model(gate="energy-leaking")


def krause_layer() -> KrauseAttention:
    """A layer alone, over features."""
    torch.manual_seed(0)
    return KrauseAttention(WIDTH, 4, neighborhood=Causal(5), top_k=3)


class Recurrent(nn.Module):
    """Sequence first, two outputs: not a transformer at all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return self.rnn(x)


class Peeking(nn.Module):
    """Looks one token ahead between its layers, in no layer's own code."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.mix(self.embedding(tokens))
        x = x + 0.1 * x.cumsum(1) + 1e-3 * F.pad(x[:, 1:], (0, 0, 0, 1))
        return self.out(x)


class PastKeyValues(nn.Module):
    """A cache as in transformers; ``broken`` forgets to count positions in it."""

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.broken = broken
        self.embedding = nn.Embedding(20, WIDTH)
        self.positions = nn.Embedding(64, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
    ) -> Any:
        past = 0 if past_key_values is None else past_key_values.keys.shape[1]
        length = past + input_ids.shape[1]
        if attention_mask is None:
            attention_mask = torch.ones(len(input_ids), length, dtype=torch.long)
        position = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        position = position[:, : input_ids.shape[1]] if self.broken else position[:, past:]
        x = self.embedding(input_ids) + self.positions(position)
        keys = x if past_key_values is None else torch.cat([past_key_values.keys, x], 1)
        scores = x @ self.key(keys).mT / math.sqrt(WIDTH)
        seen = torch.ones(length, length, dtype=torch.bool).tril()[past:] & (
            attention_mask.unsqueeze(1) == 1
        )
        weights = scores.masked_fill(~seen, -1e9).softmax(-1)
        cache = SimpleNamespace(keys=keys) if use_cache else None
        return SimpleNamespace(logits=weights @ keys, past_key_values=cache)


def broken_cache() -> PastKeyValues:
    """Decodes every token as if it were the first."""
    return PastKeyValues(broken=True)


def with_inputs() -> tuple[nn.Module, Tensor]:
    """A model that brings what to call it with."""
    return MaskedEncoder(), torch.randn(2, 29, WIDTH)


class IgnoresPadding(nn.Module):
    """Takes a padding mask and drops it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()

    def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        return self.encoder(x)


class TurnedInside(nn.Module):
    """Batch first outside, sequence first inside: bidirectional all the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(50, WIDTH)
        self.rnn = nn.LSTM(WIDTH, WIDTH // 2, bidirectional=True)
        self.unused = nn.GRU(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.rnn(self.embedding(tokens).transpose(0, 1))[0].transpose(0, 1)


class ZeroAtFirst(nn.Module):
    """Attention behind a projection that starts at zero, and a padding mask that is dropped."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(50, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)

    def forward(self, tokens: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        x = self.embedding(tokens)
        return x + self.attention(x, x, x, need_weights=False)[0]


class RunningSum(nn.Module):
    """Causal but for the last token of each block; its cache remembers nothing; tiny outputs."""

    def __init__(self, block: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = block
        self.embedding = nn.Embedding(50, WIDTH)

    def new_cache(self) -> list[Tensor]:
        return []

    def forward(self, tokens: Tensor, cache: list[Tensor] | None = None) -> Tensor:
        x = 1e-7 * self.embedding(tokens)
        total = x.cumsum(1)
        if self.block and tokens.shape[1] > self.block:
            peek = torch.zeros_like(x)
            last = torch.arange(self.block - 1, tokens.shape[1] - 1, self.block)
            peek[:, last] = x[:, last + 1]
            total = total + peek
        return total


class Masked(nn.Module):
    """A sound encoder whose ``attention_mask`` is boolean; ``blocked`` says what True means."""

    def __init__(self, blocked: bool = False, positions: int = 200) -> None:
        super().__init__()
        self.blocked = blocked
        self.embedding = nn.Embedding(50, WIDTH)
        self.places = nn.Embedding(positions, WIDTH)
        self.inner = MaskedEncoder()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        x = self.embedding(input_ids)
        padding = None
        if attention_mask is not None:
            if attention_mask.dtype != torch.bool:
                raise TypeError("attention_mask must be boolean")
            padding = attention_mask if self.blocked else ~attention_mask
        real = torch.ones_like(input_ids) if padding is None else (~padding).long()
        return self.inner(x + self.places((real.cumsum(1) - 1).clamp(min=0)), padding)


def raising() -> nn.Module:
    """A factory with a fault of its own."""
    raise KeyError("depth")


def uncallable() -> tuple[nn.Module, Tensor]:
    """A model with inputs that do not fit it."""
    return encoder(), torch.randn(2, 9, 7)


def difference(first: Tensor, second: Tensor) -> Tensor:
    """A function that is no factory."""
    return first - second


NOT_A_MODEL = 3


class Experts(nn.Module):
    """A causal layer, then a mixture of two experts whose capacity runs over the flattened batch.

    Tokens beyond the ``capacity`` of their expert, counted over all rows, are dropped.
    """

    def __init__(self, capacity: int, *, causal: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = KrauseAttention(WIDTH, 2, neighborhood=Causal(8) if causal else Full())
        self.router = nn.Linear(WIDTH, 2)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.capacity = capacity

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)[0]
        tokens = x.flatten(0, 1)
        chosen = self.router(tokens).argmax(-1)
        made = torch.zeros_like(tokens)
        for index, expert in enumerate(self.experts):
            taken = chosen == index
            taken = taken & (taken.cumsum(0) <= self.capacity)
            made = made + expert(tokens) * taken.unsqueeze(-1)
        return x + made.unflatten(0, x.shape[:2])
