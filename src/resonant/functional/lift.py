"""The one type every mechanism speaks: attention written as an inner product of features."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Lift:
    """A mechanism's scores as an inner product of lifted features plus a bias per key.

    ``logit[i, j] = <query[i], key[j]> + key_bias[j]``; the output is
    ``sum_j softmax_j(logit[i, j]) value[j]`` over the keys that take part.

    Shapes: ``query`` (batch, head, query, dim), ``key`` (batch, key_head, key, dim), ``value``
    (batch, key_head, key, value_dim), ``key_bias`` (batch or 1, key_head or 1, key) in float32 or
    better, in nats, -inf where a key takes no part. ``head`` is a multiple of ``key_head``: query
    head h reads key head ``h // (head / key_head)``. The widths of key and value may differ.

    Raises ``ValueError`` when the sizes do not fit together.

    Source: the identity of section 0 of the mathematics page. Scores are never scaled again:
    a scale is part of the lift.
    """

    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch key_head key dim"]
    value: Float[Tensor, "batch key_head key value_dim"]
    key_bias: Float[Tensor, "#batch #key_head key"] | None = None

    def __post_init__(self) -> None:
        query, key, value = self.query, self.key, self.value
        for name, tensor in (("query", query), ("key", key), ("value", value)):
            if tensor.dim() != 4:
                raise ValueError(
                    f"a Lift holds tensors (batch, head, sequence, dim), but {name} has shape "
                    f"{tuple(tensor.shape)}; add the missing axes with unsqueeze"
                )
        if key.shape[:3] != value.shape[:3]:
            raise ValueError(
                "key and value must share batch, heads and length, but their shapes are "
                f"{tuple(key.shape)} and {tuple(value.shape)}"
            )
        if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
            raise ValueError(
                "query and key must share batch and width, but their shapes are "
                f"{tuple(query.shape)} and {tuple(key.shape)}"
            )
        if query.shape[1] % key.shape[1]:
            raise ValueError(
                "the number of query heads must be a multiple of the number of key heads, but "
                f"they are {query.shape[1]} and {key.shape[1]}"
            )
        if self.key_bias is not None:
            self._check_bias(self.key_bias)

    def _check_bias(self, bias: Tensor) -> None:
        batch, heads, length = self.key.shape[:3]
        fits = bias.dim() == 3 and bias.shape[2] == length
        if not (fits and bias.shape[0] in (1, batch) and bias.shape[1] in (1, heads)):
            raise ValueError(
                f"key_bias must have shape (batch or 1, key heads or 1, keys) = ({batch} or 1, "
                f"{heads} or 1, {length}), but it is {tuple(bias.shape)}"
            )

    @property
    def groups(self) -> int:
        """Query heads per key head."""
        return self.query.shape[1] // self.key.shape[1]

    def add_bias(self, bias: Tensor | None) -> Lift:
        """The same lift with ``bias`` (nats, broadcast to ``key_bias``) added to every logit."""
        if bias is None:
            return self
        return replace(self, key_bias=bias if self.key_bias is None else self.key_bias + bias)

    def keys(self, start: int, stop: int) -> Lift:
        """The same lift over the keys ``start:stop`` alone."""
        bias = self.key_bias
        return replace(
            self,
            key=self.key[:, :, start:stop],
            value=self.value[:, :, start:stop],
            key_bias=None if bias is None else bias[:, :, start:stop],
        )

    def queries(self, start: int, stop: int) -> Lift:
        """The same lift over the queries ``start:stop`` alone."""
        return replace(self, query=self.query[:, :, start:stop])
