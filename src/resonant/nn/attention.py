"""Multi-head attention by any registered mechanism, with MultiheadAttention's words."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..errors import nearest
from ..functional.attend import attend, attention_weights
from ..functional.lift import Lift
from ..functional.mask import as_bias, from_blocked
from ..functional.mechanism import Mechanism, Scalar, mechanism
from ..functional.neighborhood import Full, Neighborhood, causal_part, reach

Position = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class HeadScalar(nn.Module):
    """One learned number per head, kept in a module of its own so that PEFT can save it.

    Returns a tensor (head,); a positive scalar stores its logarithm.
    """

    def __init__(self, num_heads: int, start: float, *, positive: bool) -> None:
        super().__init__()
        self.positive = positive
        value = torch.full((num_heads,), float(start))
        self.value = nn.Parameter(value.log() if positive else value)

    def forward(self) -> Float[Tensor, "head"]:
        if not self.positive:
            return self.value
        # The largest finite number stands for infinity, whose gradient would be 0 times infinity.
        return self.value.clamp(max=math.log(torch.finfo(self.value.dtype).max)).exp()


class Attention(nn.Module):
    """Multi-head attention by the mechanism called ``mechanism_name``.

    Projects query, key and value, splits heads, turns them by ``position``, lifts them, attends
    over ``neighborhood`` and projects back. Words and defaults are those of
    ``torch.nn.MultiheadAttention`` with ``batch_first=True``; beyond them:
    ``num_key_value_heads`` (grouped queries), ``neighborhood``, ``top_k``, ``position``, and the
    start of each learned scalar of the mechanism (``sigma=2.5``).

    **Masks have MultiheadAttention's polarity: boolean True = blocked, and in
    ``key_padding_mask`` True = padding** (``resonant.functional`` has SDPA's, the opposite). Float
    masks are added. All sources of masking intersect.

    Serves as ``self_attn`` and ``multihead_attn`` of ``nn.TransformerEncoderLayer`` and
    ``nn.TransformerDecoderLayer``, in training and evaluation.

    Raises ``ValueError`` for sizes that do not divide and ``batch_first=False``, ``TypeError`` for
    an option or scalar that there is not.

    Differs from MultiheadAttention: weights come per head and only when asked for, ``is_causal``
    is applied rather than taken as a hint, and causality is bottom-right.
    """

    OFF: ClassVar[dict[str, float]] = {"dropout": 0.0}

    # MultiheadAttention's C++ path inside the Transformer layers would silently run softmax; these
    # two attributes are what those layers look at to rule it out.
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(
        self,
        mechanism_name: str,
        embed_dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
        num_key_value_heads: int | None = None,
        neighborhood: Neighborhood = Full(),  # noqa: B008 (frozen)
        top_k: int | None = None,
        position: Position | None = None,
        **scalar_starts: float,
    ) -> None:
        super().__init__()
        key_heads = num_heads if num_key_value_heads is None else num_key_value_heads
        _check_sizes(
            embed_dim, num_heads, key_heads, dropout=dropout, batch_first=batch_first, top_k=top_k
        )
        self.mechanism: Mechanism = mechanism(mechanism_name)
        self.embed_dim, self.num_heads, self.num_key_value_heads = embed_dim, num_heads, key_heads
        self.head_dim = embed_dim // num_heads
        self.dropout, self.batch_first = dropout, True
        reach(neighborhood)  # refuses what is no neighborhood
        self.neighborhood, self.top_k, self.position = neighborhood, top_k, position
        narrow = key_heads * self.head_dim
        self.q_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.k_proj = nn.Linear(embed_dim if kdim is None else kdim, narrow, bias=bias)
        self.v_proj = nn.Linear(embed_dim if vdim is None else vdim, narrow, bias=bias)
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        scalars = _with_starts(self.mechanism, scalar_starts)
        self.scalars = nn.ModuleDict(
            {
                name: HeadScalar(num_heads, scalar.start, positive=scalar.positive)
                for name, scalar in scalars.items()
            }
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections and zero biases, as MultiheadAttention starts."""
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def lift(self, query: Tensor, key: Tensor, value: Tensor) -> Lift:
        """The mechanism's lift of projected heads with this module's learned scalars."""
        scalars = {name: module() for name, module in self.scalars.items()}
        return self.mechanism.lift(query, key, value, **scalars)

    def observe(self, key: Tensor, blocked: Tensor | None) -> None:
        """Hook for statistics of training: sees the keys after they were used."""

    def forward(
        self,
        query: Float[Tensor, "batch query embed"],
        key: Float[Tensor, "batch key kdim"] | None = None,
        value: Float[Tensor, "batch key vdim"] | None = None,
        *,
        key_padding_mask: Bool[Tensor, "batch key"] | Float[Tensor, "batch key"] | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; returns the output (batch, query, embed) and the weights or None.

        ``attn_mask`` is (query, key), (batch * head, query, key) or broadcasts to
        (batch, head, query, key). Weights (batch, head, query, key) come before dropout.
        """
        if query.dim() != 3:
            raise ValueError(
                "attention takes (batch, sequence, embed), but the query has shape "
                f"{tuple(query.shape)}; add a batch axis with unsqueeze(0)"
            )
        key = query if key is None else key
        value = key if value is None else value
        heads = self._project(query, key, value)
        lift = self._padded(self.lift(*heads), key_padding_mask)
        options = {
            "neighborhood": causal_part(self.neighborhood) if is_causal else self.neighborhood,
            "top_k": self.top_k,
            "attn_mask": self._functional_mask(attn_mask, query.shape[0]),
        }
        dropout_p = self.dropout if self.training else 0.0
        weights = attention_weights(lift, **options) if need_weights else None
        output = attend(lift, **options, dropout_p=dropout_p)
        output = self.mechanism.read(output, heads[0])
        if self.training:
            self.observe(heads[1], key_padding_mask)
        return self.out_proj(output.transpose(1, 2).flatten(2)), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def split(features: Tensor) -> Tensor:
            return features.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        turned = split(self.q_proj(query)), split(self.k_proj(key))
        if self.position is not None:
            turned = self.position(*turned)
        return *turned, split(self.v_proj(value))

    def _padded(self, lift: Lift, padding: Tensor | None) -> Lift:
        if padding is None:
            return lift
        if tuple(padding.shape) != (lift.key.shape[0], lift.key.shape[2]):
            raise ValueError(
                "key_padding_mask must have shape (batch, key) = "
                f"({lift.key.shape[0]}, {lift.key.shape[2]}), but it is {tuple(padding.shape)}"
            )
        return lift.add_bias(as_bias(from_blocked(padding)).unsqueeze(1))

    def _functional_mask(self, mask: Tensor | None, batch: int) -> Tensor | None:
        if mask is None:
            return None
        if mask.dim() == 3:
            if mask.shape[0] != batch * self.num_heads:
                raise ValueError(
                    "a 3-D attn_mask must have shape (batch * head, query, key) with "
                    f"batch * head = {batch * self.num_heads}, but it is {tuple(mask.shape)}"
                )
            mask = mask.unflatten(0, (batch, self.num_heads))
        return from_blocked(mask)

    def extra_repr(self) -> str:
        return (
            f"{self.mechanism.name}, embed_dim={self.embed_dim}, num_heads={self.num_heads}, "
            f"neighborhood={self.neighborhood}, top_k={self.top_k}"
        )


def _with_starts(mechanism: Mechanism, starts: dict[str, float]) -> dict[str, Scalar]:
    unknown = sorted(set(starts) - set(mechanism.scalars))
    if unknown:
        hidden = ("mechanism_name", "scalar_starts")
        own = [p for p in inspect.signature(Attention).parameters if p not in hidden]
        raise TypeError(
            f"{mechanism.name} attention has no option or learned scalar {unknown[0]!r}; "
            f"{nearest(unknown[0], [*own, *mechanism.scalars])}"
        )
    return {
        name: Scalar(starts.get(name, scalar.start), scalar.off, scalar.baseline, scalar.positive)
        for name, scalar in mechanism.scalars.items()
    }


def _check_sizes(
    embed_dim: int,
    num_heads: int,
    key_heads: int,
    *,
    dropout: float,
    batch_first: bool,
    top_k: int | None,
) -> None:
    if not batch_first:
        raise ValueError(
            "batch_first=False is not supported: tensors are (batch, sequence, embed); "
            "transpose(0, 1) around the module"
        )
    if num_heads < 1 or embed_dim % num_heads:
        raise ValueError(
            f"num_heads must divide embed_dim, but they are {num_heads} and {embed_dim}"
        )
    if key_heads < 1 or num_heads % key_heads:
        raise ValueError(
            f"num_key_value_heads must divide num_heads, but they are {key_heads} and {num_heads}"
        )
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is a probability in [0, 1); it is {dropout}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k counts the keys to keep, so it is at least 1; it is {top_k}")
