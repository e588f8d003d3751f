"""What cross-attention modules share whose target keeps time: clocks and moving mixtures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ..functional.clock import Clock
from ..functional.filter import ClockState, FilteredClock, clock_filter
from ..functional.mask import real_keys
from .cache import CrossCache, refuse_training
from .core import AttentionCore, check_widths
from .energy import EnergyGate
from .parameter import HeadScalar, HeadShare, start_projections, wide_linear


class TimedAttention(AttentionCore):
    """Cross-attention whose target keeps time: what a frame sees depends on the frames before it.

    Shared by ``ClockAttention``, ``MixtureAttention`` and ``ForwardAttention``: projections of
    values, padding of queries, and the cache for decoding frame by frame.
    """

    keyed = True  # whether features of the key are read

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        bias: bool,
        vdim: int | None,
        dropout: float,
        batch_first: bool,
        num_key_value_heads: int | None = None,
        gate: EnergyGate | None = None,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            num_key_value_heads=num_key_value_heads,
            dropout=dropout,
            batch_first=batch_first,
            gate=gate,
        )
        self.kdim, self.vdim = embed_dim, vdim or embed_dim
        narrow = self.num_key_value_heads * self.head_dim
        self.v_proj = nn.Linear(embed_dim if vdim is None else vdim, narrow, bias=bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.query_padding: Tensor | None = None  # set by padded_queries
        self.pace = 1.0  # set by paced
        start_projections(self.v_proj, self.out_proj)

    def new_cache(self) -> CrossCache:  # type: ignore[override]
        """An empty cache for decoding frame by frame."""
        return CrossCache()

    def _real_queries(self, given: Tensor | None, query: Tensor) -> Tensor | None:
        """(batch, query) True = real, from the argument or ``padded_queries``."""
        blocked = self.query_padding if given is None else given
        if blocked is not None and blocked.dtype != torch.bool:
            raise TypeError(
                "query_padding_mask must be boolean (True = padding), not "
                f"{blocked.dtype}: there is no score that a float could be added to"
            )
        return _real("query_padding_mask", blocked, query)

    def _real_source(self, padding: Tensor | None, key: Tensor) -> Tensor | None:
        """(batch, key) True = real."""
        return _real("key_padding_mask", padding, key)

    def _values(self, value: Tensor) -> Tensor:
        return self.v_proj(value).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _check(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cache: CrossCache | None,
        *,
        positional: bool,
    ) -> None:
        """Refuse what does not fit; ``positional``: a mask that knows frames was given."""
        if query.dim() != 3:
            raise ValueError(
                "attention takes (batch, sequence, embed), but the query has shape "
                f"{tuple(query.shape)}; add a batch axis with unsqueeze(0)"
            )
        if key.shape[:2] != value.shape[:2] or key.shape[0] != query.shape[0]:
            raise ValueError(
                "query, key and value must share the batch, key and value the length, but their "
                f"shapes are {tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}"
            )
        check_widths(query=(query, self.embed_dim), value=(value, self.vdim))
        if self.keyed:
            check_widths(key=(key, self.kdim))
        if cache is None:
            return
        refuse_training(self)
        if not isinstance(cache, CrossCache):
            raise TypeError(
                f"{type(self).__name__} cannot use a {type(cache).__name__}; use the cache of this "
                "very module's new_cache()"
            )
        cache.claim(type(self).__name__)
        if positional:
            raise ValueError(
                "attn_mask and is_causal cannot be used with a cache, whose frames they do not "
                "know; use key_padding_mask"
            )


def _real(name: str, blocked: Tensor | None, of: Tensor) -> Tensor | None:
    if blocked is not None and blocked.shape != of.shape[:2]:
        raise ValueError(
            f"{name} must have shape (batch, sequence) = {tuple(of.shape[:2])}, but it is "
            f"{tuple(blocked.shape)}"
        )
    return real_keys(blocked)


@contextmanager
def padded_queries(
    model: nn.Module, query_padding_mask: Bool[Tensor, "batch query"]
) -> Iterator[None]:
    """Inside the block, which of ``model``'s timed queries are padding is given (True = padding).

    For modules that have no such argument: ``with padded_queries(decoder, tgt_key_padding_mask):
    decoder(...)`` with clocks as ``multihead_attn`` of its ``nn.TransformerDecoderLayer``.

    Raises ``ValueError`` where there are no such modules.
    """
    timed = [module for module in model.modules() if isinstance(module, TimedAttention)]
    if not timed:
        raise ValueError(
            f"{type(model).__name__} holds no ClockAttention, MixtureAttention or ForwardAttention"
        )
    with _set(timed, "query_padding", query_padding_mask):
        yield


@contextmanager
def paced(model: nn.Module, tempo: float) -> Iterator[None]:
    """Inside the block, ``model``'s targets go through their sources ``tempo`` times as fast.

    Clocks take so much more time a frame, mixtures move so much farther, forward attention moves on
    so much more often (at most always).

    Raises ``ValueError`` where there are no such modules, where clocks are normalized (their tempo
    is the number of frames), and for a tempo that is no finite number above 0.
    """
    timed = [module for module in model.modules() if isinstance(module, TimedAttention)]
    if not isinstance(tempo, (int, float)) or not 0.0 < tempo < math.inf:
        raise ValueError(f"tempo is a finite number above 0; it is {tempo}")
    if not timed:
        raise ValueError(
            f"{type(model).__name__} has no tempo: it holds no ClockAttention, MixtureAttention or "
            "ForwardAttention"
        )
    if any(getattr(module, "normalized", False) for module in timed):
        raise ValueError(
            f"{type(model).__name__} has normalized clocks, whose tempo is the number of frames: "
            "give more or fewer"
        )
    with _set(timed, "pace", tempo):
        yield


@contextmanager
def trusted(model: nn.Module, share: float) -> Iterator[None]:
    """Inside the block, clocks of ``model`` that listen take ``share`` of every correction.

    For sound unlike that of training, where what a frame resembles says less than the filter has
    learnt; 0 is the running clock.

    Raises ``ValueError`` where no clock listens, and for a share outside [0, 1].
    """
    filters = [module for module in model.modules() if isinstance(module, ClockFilter)]
    if not isinstance(share, (int, float)) or not 0.0 <= share <= 1.0:
        raise ValueError(f"share is of a correction, so it lies in [0, 1]; it is {share}")
    if not filters:
        raise ValueError(f"{type(model).__name__} holds no ClockAttention with listen=True")
    with _set(filters, "trust", share):
        yield


@contextmanager
def _set(modules: Sequence[nn.Module], name: str, value: object) -> Iterator[None]:
    """An attribute of modules as ``value`` inside the block."""
    before = [getattr(module, name) for module in modules]
    try:
        for module in modules:
            setattr(module, name, value)
        yield
    finally:
        for module, old in zip(modules, before, strict=True):
            setattr(module, name, old)


def inverse_softplus(value: float) -> float:
    """``log(e^value - 1)``, -inf at 0; ``ValueError`` below."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"a rate must not be negative, and finite; it is {value}")
    if value == 0.0:
        return -math.inf
    return value + math.log(-math.expm1(-value))


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
        self.trust = 1.0  # set by trusted
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
            gain=self.trust * self.gain(),
            tempo_gain=0.0 if self.tempo_gain is None else self.tempo_gain(),
            diffusion=diffusion,
            search=self.search(),
            spread=self.spread(),
            renewal=self.renewal(),
            mask=mask,
            state=state,
        )
