"""A cache of transformers for attention in windows: the last keys, and the first ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ..functional.neighborhood import Causal
from .attention_interface import Gap, InterfaceMechanism


class WindowedLayer(CacheLayerMixin):
    """The keys and values that queries of ``Causal(window, first=N)`` may still see.

    That is the first N tokens and the last W - 1: time and memory of a token do not grow with the
    context. Tokens cannot be taken back (``crop``).
    """

    is_sliding = False

    def __init__(self, window: int, first: int = 0) -> None:
        super().__init__()
        self.window, self.first = window, first
        self.tokens = 0  # seen, held or not

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with no keys, of the dtype and on the device of these."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take new keys and values; returns all that their queries may see."""
        del args, kwargs
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        keys = torch.cat([self.keys, key_states], dim=2)
        values = torch.cat([self.values, value_states], dim=2)
        self.tokens += key_states.shape[2]
        self.keys, self.values = self._kept(keys), self._kept(values)
        return keys, values

    def _kept(self, x: Tensor) -> Tensor:
        last = self.window - 1
        if x.shape[2] <= self.first + last:
            return x
        return torch.cat([x[:, :, : self.first], x[:, :, x.shape[2] - last :]], dim=2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Give the mask as many columns as there are keys, of which the last is the last token."""
        held = 0 if self.keys is None else self.keys.shape[2]
        return held + query_length, Gap(self.tokens - held)

    def get_seq_length(self) -> int:
        """Count the tokens seen, held or not: where the next one stands."""
        return self.tokens

    def get_max_length(self) -> int:
        """Say that there is no longest context, as transformers writes it."""
        return -1

    def reset(self) -> None:
        """Forget all tokens."""
        self.keys = self.values = None
        self.is_initialized, self.tokens = False, 0

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row ``repeats`` times."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.repeat_interleave(repeats, dim=0)
            self.values = self.values.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with the rows ``indices``."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[indices], self.values[indices]

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse to take tokens back: raises ``ValueError`` unless there are none."""
        if tokens_to_remove != 0:
            raise ValueError(
                "a windowed cache has dropped the keys before, and cannot take tokens back, as "
                "assisted decoding and crop() do; decode without an assistant"
            )


class WindowedCache(Cache):
    """A cache of ``WindowedLayer``, one a layer; made by ``windowed_cache``."""

    layers: list[Any]

    def __init__(self, layers: list[WindowedLayer]) -> None:
        super().__init__(layers=[*layers])

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        held = [x for layer in self.layers for x in (layer.keys, layer.values) if x is not None]
        return sum(x.numel() * x.element_size() for x in held)


def windowed_cache(model: Any) -> WindowedCache:
    """Make an empty cache that holds, in every layer, a window of keys and the first ones.

    For a model all of whose layers ``use_attention`` gave one and the same ``Causal(window,
    first=N)``: hand it to ``generate``, or to the model, as ``past_key_values``. Padding is
    refused there: rows are of one length. It is that model's alone, as long as it attends so:
    nothing in a cache of transformers can tell.

    Raises ``ValueError`` for a model whose layers see more than a window, or differ.
    """
    mechanisms = [each for each in model.modules() if isinstance(each, InterfaceMechanism)]
    seen = {each.neighborhood for each in mechanisms}
    layers = int(model.config.get_text_config().num_hidden_layers)
    one = next(iter(seen), None)
    windowed = isinstance(one, Causal) and one.window is not None
    if len(seen) != 1 or len(mechanisms) != layers or not windowed:
        said = ", ".join(sorted(map(str, seen))) or "no attention of ours"
        raise ValueError(
            f"a windowed cache is for a model whose {layers} layers all attend by ours in one "
            f"window, but {len(mechanisms)} do, in {said}; use_attention(model, ..., "
            "neighborhood=Causal(window, first=N))"
        )
    assert isinstance(one, Causal)
    assert one.window is not None
    return WindowedCache([WindowedLayer(one.window, one.first) for _ in range(layers)])
