"""What clocks that listen learn beside rates: what frames and tokens resemble, and how far to
trust it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..functional.clock import Clock
from ..functional.filter import ClockState, FilteredClock, clock_filter
from .parameter import HeadScalar, HeadShare
from .timed import wide_linear

CONTENT = 16  # features by which a head compares frames with tokens


class ClockFilter(nn.Module):
    """Corrects target clocks by what the frames so far resemble (see ``functional.clock_filter``).

    ``logits = q . k / sqrt(16)`` of projections of their own; ``gain`` and, with ``tempo``,
    ``tempo_gain`` in [0, 1], ``search``, ``spread`` and ``renewal`` in clock time squared, one
    learned number a head each. All in float32 or better, also under autocast; the states are
    float64.

    Source: ours; see ``functional.clock_filter``.
    """

    def __init__(
        self, embed_dim: int, source_dim: int, heads: tuple[int, int], *, tempo: bool
    ) -> None:
        super().__init__()
        count, key_heads = heads
        self.q_content = nn.Linear(embed_dim, count * CONTENT, bias=False)
        self.k_content = nn.Linear(source_dim, key_heads * CONTENT, bias=False)
        self.gain = HeadShare(count, 0.5)
        self.tempo_gain = HeadShare(count, 0.12) if tempo else None
        self.search = HeadScalar(count, 1.0, positive=True)
        self.spread = HeadScalar(count, 0.25, positive=True)
        self.renewal = HeadScalar(count, 0.05, positive=True)

    def content(self, key: Tensor) -> Tensor:
        """What tokens are compared by: (batch, key_head, key, 16)."""
        return wide_linear(self.k_content, key).unflatten(-1, (-1, CONTENT)).transpose(1, 2)

    def forward(
        self,
        query: Tensor,
        rate: Tensor,
        source: Clock,
        content: Tensor,
        *,
        diffusion: Tensor,
        mask: Tensor | None,
        state: ClockState | None,
    ) -> FilteredClock:
        """Filter ``rate`` (batch, head, frame) by ``query`` (batch, frame, embed).

        ``content`` is of the tokens, ``mask`` (batch, frame) True on real frames.
        """
        frames = wide_linear(self.q_content, query).unflatten(-1, (-1, CONTENT)).transpose(1, 2)
        heads = frames.shape[1] // content.shape[1]
        with torch.autocast(query.device.type, enabled=False):
            tokens = content.repeat_interleave(heads, dim=1).to(frames.dtype)
            logits = frames @ tokens.mT / CONTENT**0.5
        return clock_filter(
            rate,
            logits,
            source,
            gain=self.gain(),
            tempo_gain=0.0 if self.tempo_gain is None else self.tempo_gain(),
            diffusion=diffusion,
            search=self.search(),
            spread=self.spread(),
            renewal=self.renewal(),
            mask=mask,
            state=state,
        )
