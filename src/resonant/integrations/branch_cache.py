"""The branch's own keys inside the caches of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from ..nn.cache import AttentionCache


class BranchedLayer(CacheLayerMixin):
    """A layer of a transformers cache with the branch's window of keys beside it.

    Everything else is the inner layer's. What was read cannot be taken back (``crop``): of older
    keys the window holds none.
    """

    def __init__(self, inner: Any, window: int | None, owner: int) -> None:
        # Not super().__init__(): keys and values are the inner layer's.
        self.inner, self.window, self.owner = inner, window, owner
        self.branch = AttentionCache(window)

    is_croppable = False

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not there yet while being copied
            raise AttributeError(name)
        return getattr(self.inner, name)

    @property
    def is_compileable(self) -> bool:  # type: ignore[override]
        """As the inner layer: transformers leaves out masks of other caches for single tokens."""
        return self.inner.is_compileable

    @property
    def supports_early_init(self) -> bool:  # type: ignore[override]
        """As the inner layer."""
        return self.inner.supports_early_init

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """As the inner layer."""
        self.inner.lazy_initialization(key_states, value_states)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As the inner layer: the pretrained keys and values."""
        return self.inner.update(key_states, value_states, *args, **kwargs)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As the inner layer."""
        return self.inner.get_mask_sizes(query_length)

    def get_seq_length(self) -> Any:
        """As the inner layer: a number, a static one gives a tensor."""
        return self.inner.get_seq_length()

    def get_max_length(self) -> int:
        """As the inner layer."""
        return self.inner.get_max_length()

    def offload(self) -> None:
        """The inner layer's; the window is small and stays."""
        self.inner.offload()

    def prefetch(self) -> None:
        """As the inner layer."""
        self.inner.prefetch()

    def reset(self) -> None:
        """Forget all tokens."""
        self.inner.reset()
        self.branch = AttentionCache(self.window)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Go on with the rows ``beam_idx``."""
        self.inner.reorder_cache(beam_idx)
        self.branch.reorder(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row ``repeats`` times."""
        rows = torch.arange(self.inner.keys.shape[0], device=self.inner.keys.device)
        self.inner.batch_repeat_interleave(repeats)
        self.branch.reorder(rows.repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with the rows ``indices``."""
        self.inner.batch_select_indices(indices)
        self.branch.reorder(torch.as_tensor(indices, device=self.inner.keys.device))

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: raises ``ValueError`` unless nothing is taken back."""
        if tokens_to_remove != 0:
            raise ValueError(
                "the branch remembers its window alone and cannot take tokens back, as assisted "
                "decoding and crop() do; decode without an assistant, or remove_krause_branch"
            )
        self.inner.crop(0)


def branched_layer(cache: Any, index: int, window: int | None, owner: int) -> BranchedLayer:
    """Layer ``index`` of a transformers cache, with room for the keys of branch ``owner``.

    Raises ``ValueError`` for a cache that another branch has filled.
    """
    layer = cache.layers[index]
    if not isinstance(layer, BranchedLayer):
        layer = cache.layers[index] = BranchedLayer(layer, window, owner)
    if layer.owner != owner and layer.branch.length:
        raise ValueError("another branch has filled this cache; begin with a new one")
    layer.owner = owner
    return layer
