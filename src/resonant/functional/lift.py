"""The one type every mechanism speaks: attention written as an inner product of features."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jaxtyping import Float, Int
from torch import Tensor

from .pair import Pair


@dataclass(frozen=True)
class Documents:
    """Labels of documents packed in one row: a query sees only keys with its own label.

    Shapes: ``query`` (batch or 1, query), ``key`` (batch or 1, key), integers.
    """

    query: Int[Tensor, "#batch query"]
    key: Int[Tensor, "#batch key"]


@dataclass(frozen=True)
class Lift:
    """A mechanism's scores as an inner product of lifted features plus a bias per key.

    ``logit[i, j] = <query[i], key[j]> + key_bias[j]``; the output is
    ``sum_j softmax_j(logit[i, j]) value[j]`` over the keys that take part.

    Shapes: ``query`` (batch, head, query, dim), ``key`` (batch, key_head, key, dim), ``value``
    (batch, key_head, key, value_dim), ``key_bias`` (batch or 1, key_head or 1, key) in float32 or
    better, in nats, -inf where a key takes no part. ``head`` is a multiple of ``key_head``: query
    head h reads key head ``h // (head / key_head)``. The widths of key and value may differ.

    ``pair`` adds a function of two centers to the logits (a Gaussian of their distance),
    ``documents`` hides keys of other documents, and ``sink`` (batch or 1, head, query or 1) in nats
    is the logit of one further key with the value 0, which every query sees.

    Raises ``ValueError`` when the sizes do not fit together.

    Source: the identity of section 0 of the mathematics page. Scores are never scaled again:
    a scale is part of the lift.
    """

    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch key_head key dim"]
    value: Float[Tensor, "batch key_head key value_dim"]
    key_bias: Float[Tensor, "#batch #key_head key"] | None = None
    pair: Pair | None = field(default=None, kw_only=True)
    documents: Documents | None = field(default=None, kw_only=True)
    sink: Float[Tensor, "#batch head #query"] | None = field(default=None, kw_only=True)

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
        self._check_extras()

    def _check_bias(self, bias: Tensor) -> None:
        batch, heads, length = self.key.shape[:3]
        fits = bias.dim() == 3 and bias.shape[2] == length
        if not (fits and bias.shape[0] in (1, batch) and bias.shape[1] in (1, heads)):
            raise ValueError(
                f"key_bias must have shape (batch or 1, key heads or 1, keys) = ({batch} or 1, "
                f"{heads} or 1, {length}), but it is {tuple(bias.shape)}"
            )

    def _check_extras(self) -> None:
        batch, heads, queries, _ = self.query.shape
        key_heads, keys = self.key.shape[1:3]
        wanted: list[tuple[str, Tensor, tuple[tuple[int, ...], ...]]] = []
        if self.pair is not None:
            pair = self.pair
            for name in pair.QUERY:
                lengths = (1, queries) if name in pair.CONSTANT else (queries,)
                sizes = ((1, batch), (1, heads), lengths)
                wanted.append((f"pair.{name}", getattr(pair, name), sizes))
            for name in pair.KEY:
                sizes = ((1, batch), (1, key_heads), (keys,))
                wanted.append((f"pair.{name}", getattr(pair, name), sizes))
        if self.documents is not None:
            wanted += [
                ("documents.query", self.documents.query, ((1, batch), (queries,))),
                ("documents.key", self.documents.key, ((1, batch), (keys,))),
            ]
        if self.sink is not None:
            wanted.append(("sink", self.sink, ((1, batch), (heads,), (1, queries))))
        for name, tensor, sizes in wanted:
            fits = tensor.dim() == len(sizes)
            if not fits or any(s not in allowed for s, allowed in zip(tensor.shape, sizes)):  # noqa: B905
                shape = ", ".join(" or ".join(map(str, sorted(set(a)))) for a in sizes)
                raise ValueError(
                    f"{name} must have shape ({shape}), but it is {tuple(tensor.shape)}"
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
        sides = {name: x[:, :, start:stop] for name, x in self.key_side().items()}
        return self.with_key_side(sides)

    def queries(self, start: int, stop: int) -> Lift:
        """The same lift over the queries ``start:stop`` alone."""

        def cut(per_query: Tensor) -> Tensor:
            return per_query if per_query.shape[-1] == 1 else per_query[..., start:stop]

        documents, sink = self.documents, self.sink
        pair = None if self.pair is None else self.pair.queries(start, stop)
        if documents is not None:
            documents = replace(documents, query=documents.query[:, start:stop])
        query = self.query[:, :, start:stop]
        sink = None if sink is None else cut(sink)
        return replace(self, query=query, pair=pair, documents=documents, sink=sink)

    def key_side(self) -> dict[str, Tensor]:
        """All that belongs to keys, by name, the sequence on axis 2: what a cache stores."""
        side = {"key": self.key, "value": self.value}
        if self.key_bias is not None:
            side["key_bias"] = self.key_bias
        if self.pair is not None:
            side |= {f"pair.{name}": x for name, x in self.pair.key_side().items()}
        if self.documents is not None:
            side["documents"] = self.documents.key.unsqueeze(1)
        return side

    def with_key_side(self, side: dict[str, Tensor]) -> Lift:
        """The same queries over other keys, given as ``key_side`` gives them."""
        pair, documents = self.pair, self.documents
        centers = {} if pair is None else {name: side[f"pair.{name}"] for name in pair.KEY}
        return replace(
            self,
            key=side["key"],
            value=side["value"],
            key_bias=side.get("key_bias"),
            pair=pair and replace(pair, **centers),
            documents=documents and replace(documents, key=side["documents"].squeeze(1)),
        )

    def ungrouped(self) -> Lift:
        """The same lift with a key head for every query head: keys repeated."""
        side, groups = self.key_side(), self.groups
        for name, x in side.items():
            if x.shape[1] > 1 or name in ("key", "value"):
                side[name] = x.repeat_interleave(groups, dim=1)
        return self.with_key_side(side)

    def tensors(self) -> tuple[Tensor | None, ...]:
        """All that a gradient may be taken to."""
        pair = () if self.pair is None else self.pair.tensors().values()
        return (self.query, self.key, self.value, self.key_bias, self.sink, *pair)

    def with_tensors(self, tensors: tuple[Tensor | None, ...]) -> Lift:
        """The same lift over other tensors, in the order of ``tensors``."""
        query, key, value, bias, sink, *rest = tensors
        assert query is not None and key is not None and value is not None  # noqa: PT018
        pair = self.pair
        if pair is not None:
            pair = replace(pair, **dict(zip(pair.tensors(), rest, strict=True)))
        return Lift(query, key, value, bias, pair=pair, documents=self.documents, sink=sink)
