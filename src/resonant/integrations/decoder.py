"""Attention in the place of that of transformers' decoders, with its call, masks and caches."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..functional.attend import attend, attention_weights
from ..functional.lift import Lift
from ..functional.mask import blocked
from ..functional.neighborhood import Causal, Full, Neighborhood, causal_part
from ..nn.heads import HeadAttention

# Classes of the library transformers that are made and called alike.
DECODERS = {"LlamaAttention": "Llama", "Qwen2Attention": "Qwen2", "Qwen3Attention": "Qwen3"}
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
Turn = tuple[Float[Tensor, "#batch token dim"], Float[Tensor, "#batch token dim"]]


def is_decoder(module: nn.Module) -> bool:
    """Whether ``module`` is the attention of a Llama, Qwen2 or Qwen3 of transformers."""
    kind = type(module)
    return kind.__name__ in DECODERS and kind.__module__.startswith("transformers.")


class DecoderHeads(nn.Module):
    """Copies of the projections of a decoder's attention ``host``, biases where it has them.

    So of the norms of heads, where it has them (Qwen3).
    """

    def __init__(self, host: Any) -> None:
        super().__init__()
        self.head_dim: int = host.head_dim
        self.num_heads = host.q_proj.out_features // host.head_dim
        self.q_proj, self.k_proj = copy.deepcopy(host.q_proj), copy.deepcopy(host.k_proj)
        self.v_proj, self.o_proj = copy.deepcopy(host.v_proj), copy.deepcopy(host.o_proj)
        self.q_norm, self.k_norm = nn.Identity(), nn.Identity()
        if hasattr(host, "q_norm"):
            self.q_norm, self.k_norm = copy.deepcopy(host.q_norm), copy.deepcopy(host.k_norm)
        self.attention_dropout = float(host.attention_dropout)

    def heads(self, hidden: Tensor, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (both turned by cosine and sine, in float32 or better) and values."""
        shape = (*hidden.shape[:-1], -1, self.head_dim)
        query = self.q_norm(self.q_proj(hidden).view(shape)).transpose(1, 2)
        key = self.k_norm(self.k_proj(hidden).view(shape)).transpose(1, 2)
        value = self.v_proj(hidden).view(shape).transpose(1, 2)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        query, key = (turned(x.to(wide), *turn) for x in (query, key))
        return query, key, value.to(wide)

    def merged(self, heads: Float[Tensor, "batch head token dim"], like: Tensor) -> Tensor:
        """Heads projected back, in the dtype of ``like``."""
        return self.o_proj(heads.transpose(1, 2).flatten(2).to(like.dtype))


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions, halves paired, by tables (batch or 1, token, dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine.unsqueeze(1) + torch.cat([-second, first], dim=-1) * sine.unsqueeze(1)


def restarts(position: Tensor) -> Tensor:
    """True where positions (batch or 1, token) go back: where a packed document begins."""
    return nn.functional.pad(position.diff(dim=-1) <= 0, (1, 0))


class HostedDecoderAttention(DecoderHeads):
    """``mechanism_name`` with the call of transformers' decoders, and their masks and caches.

    (hidden_states, position_embeddings, attention_mask, past_key_values) -> (x, None). Rotary
    positions are the host's, keys and values lie in the cache of transformers, turned. Learned
    scalars are per head. ``neighborhood`` and ``top_k`` narrow what the host's mask leaves. Made by
    ``resonant.swap``.

    Raises ``TypeError`` for an option or scalar that there is not, ``ValueError`` for first keys in
    a host whose window hides them.
    """

    def __init__(
        self,
        host: Any,
        mechanism_name: str,
        *,
        neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
        top_k: int | None = None,
        **scalar_starts: float,
    ) -> None:
        super().__init__(host)
        check_first(host, type(host).__name__, neighborhood)
        self.layer_idx: int = host.layer_idx
        self.resonant = HostedMechanism(
            mechanism_name, self.num_heads, neighborhood=neighborhood, top_k=top_k, **scalar_starts
        )

    def forward(
        self,
        hidden_states: Float[Tensor, "batch token embed"],
        position_embeddings: Turn,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **ignored: Any,
    ) -> tuple[Float[Tensor, "batch token embed"], None]:
        """``ignored`` is what transformers passes on to kernels of its own."""
        query, key, value = self.heads(hidden_states, position_embeddings)
        if past_key_values is not None:
            stored = (x.to(hidden_states.dtype) for x in (key, value))
            key, value = past_key_values.update(*stored, self.layer_idx)
            key, value = key.to(query.dtype), value.to(query.dtype)
        dropout_p = self.attention_dropout if self.training else 0.0
        output = self.resonant(query, key, value, attention_mask, causal=True, dropout_p=dropout_p)
        return self.merged(output, hidden_states), None


def check_first(host: Any, name: str, neighborhood: Neighborhood) -> None:
    """Raise ``ValueError`` where first keys are to stay that the host's own window hides."""
    window = getattr(host, "sliding_window", None)
    if window is not None and getattr(neighborhood, "first", 0):
        raise ValueError(
            f"{name} slides, {window} keys at a time: its masks and its cache have no first keys "
            f"for {neighborhood}; leave first out, or leave such layers out with layers="
        )


class HostedMechanism(HeadAttention):
    """A mechanism over projected heads of another library, which brings its masks.

    Distances and scores are float32 or better. Errors: see ``HeadAttention``.
    """

    def lift(self, query: Tensor, key: Tensor, value: Tensor) -> Lift:
        """The mechanism's lift, in float32 or better, with the learned scalars."""
        wide = torch.promote_types(query.dtype, torch.float32)
        return super().lift(query.to(wide), key.to(wide), value.to(wide))

    def forward(  # type: ignore[override]
        self,
        query: Float[Tensor, "batch head query dim"],
        key: Float[Tensor, "batch key_head key dim"],
        value: Float[Tensor, "batch key_head key value_dim"],
        mask: Tensor | None,
        *,
        causal: bool,
        dropout_p: float = 0.0,
    ) -> Float[Tensor, "batch head query value_dim"]:
        """Attend under the host's ``mask`` (see ``hosted_attend``)."""
        options = {"causal": causal, "neighborhood": self.neighborhood, "top_k": self.top_k}
        output = hosted_attend(self.lift(query, key, value), mask, **options, dropout_p=dropout_p)
        return self.mechanism.read(output, query)


def hosted_attend(
    lift: Lift,
    mask: Tensor | None,
    *,
    causal: bool,
    neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
    top_k: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """``attend`` under a mask as transformers makes it for SDPA; see ``hosted_options``."""
    lift, options = hosted_options(lift, mask, causal=causal, neighborhood=neighborhood)
    return attend(lift, **options, top_k=top_k, dropout_p=dropout_p)


def hosted_weights(
    lift: Lift,
    mask: Tensor | None,
    *,
    causal: bool,
    neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
    top_k: int | None = None,
) -> Tensor:
    """``attention_weights`` under a mask as transformers makes it for SDPA."""
    keys = lift.key.shape[2]
    lift, options = hosted_options(lift, mask, causal=causal, neighborhood=neighborhood)
    weights = attention_weights(lift, **options, top_k=top_k)
    return nn.functional.pad(weights, (0, keys - weights.shape[3]))


def hosted_options(
    lift: Lift, mask: Tensor | None, *, causal: bool, neighborhood: Neighborhood
) -> tuple[Lift, dict[str, Any]]:
    """The lift over the keys that count, and neighbourhood and mask for ``attend``.

    ``mask`` is 4-D with SDPA's polarity (or float, added), or None. None means everything for one
    query and for encoders; for several queries of a decoder query i is the i-th token of the
    sequence, and keys beyond them are room that a cache keeps free. With a mask a query stands
    where its last visible key does: so scores never depend on whether room is left behind the keys
    (a static cache) or keys are gone before them (a sliding one).

    Raises ``ValueError`` for a mask of other axes, as flash kernels take.
    """
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 4):
        what = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(
            f"a mask of transformers has axes (batch, head, query, key) here, not {what}; load the "
            "model with attn_implementation='sdpa'"
        )
    queries, keys = lift.query.shape[2], lift.key.shape[2]
    if not causal:
        return lift, {"neighborhood": neighborhood, "attn_mask": mask}
    neighborhood = causal_part(neighborhood)
    if mask is None:
        lift = lift if queries == 1 else lift.keys(0, queries)
        return lift, {"neighborhood": neighborhood, "attn_mask": None}
    mask = mask[..., :keys]
    if isinstance(neighborhood, Causal) and neighborhood.window is not None:
        mask = mask if neighborhood.window >= keys else _near(mask, neighborhood)
    return lift, {"neighborhood": Full(), "attn_mask": mask}


def _near(mask: Tensor, neighborhood: Causal) -> Tensor:
    """The mask without keys more than a window behind each query's last visible one.

    The first keys that a query might see stay.
    """
    boolean, window = mask.dtype == torch.bool, neighborhood.window
    assert window is not None
    visible = mask if boolean else ~blocked(mask)
    index = torch.arange(mask.shape[-1], device=mask.device)
    last = torch.where(visible, index, -1).amax(-1, keepdim=True)
    near = index > last - window
    if neighborhood.first:
        near = near | (visible.cumsum(-1) <= neighborhood.first)
    return mask & near if boolean else mask.masked_fill(~near, float("-inf"))
