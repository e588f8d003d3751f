"""Caches for decoding: lifted keys, and the little that gates and positions remember.

Nothing is held in modules: a cache is made (``new_cache``), handed to each call, and updated there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..functional.attend.first import FirstKeys
from ..functional.documents import token_positions
from ..functional.energy import PrefixSums
from ..functional.filter import ClockState
from ..functional.lift import Lift
from ..functional.linear import LinearState
from ..functional.mask import take_part

SMALLEST_CAPACITY = 16
GRADIENTS = "a cache keeps keys without their gradients; call the model inside torch.no_grad()"


def refuse_training(module: nn.Module) -> None:
    """Raise ``ValueError`` if ``module`` is not in evaluation or would record gradients."""
    if module.training:
        raise ValueError("a cache is for inference; call eval() on the module first")
    if torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters()):
        raise ValueError(GRADIENTS)


class AttentionCache:
    """What one attention module remembers of the tokens so far.

    Lifted keys and values, with bias, positions and documents, in order; without ``window`` all of
    them, in buffers that double; with a window W the last W - 1 at least and 2 W at most, so that
    time and memory per token do not grow, and the ``first`` keys that take part of the document
    that each row is in. ``energy`` are the running sums of an energy gate,
    ``document`` and ``run`` say in which document the row is.

    For inference: run the model in evaluation, without gradients.
    """

    def __init__(self, window: int | None = None, first: int = 0) -> None:
        self.window = window
        self.first = first
        self.energy: PrefixSums | None = None
        self.document: Tensor | None = None  # label of the last token (batch or 1, 1)
        self.run: Tensor | None = None  # which document of its row that is (batch, 1)
        self._length = 0
        self._buffers: dict[str, Tensor] = {}
        self._end = 0  # of what the buffers hold
        self._left = 0  # how many of these have left the window and are among the first, if at all
        self._staying = FirstKeys(first)
        self._count: Tensor | None = None  # of real tokens in the document so far (batch, 1)

    @property
    def length(self) -> int:
        """Number of tokens seen, stored or not; left padding counts."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        buffers = sum(x.numel() * x.element_size() for x in self._buffers.values())
        sums = 0 if self.energy is None else self.energy.nbytes
        return buffers + self._staying.nbytes + sums

    def update(self, lift: Lift) -> Lift:
        """Store the keys of ``lift``; returns its queries over all keys they may see.

        Raises ``ValueError`` under gradients, and when documents come in one call and not in
        another.
        """
        if torch.is_grad_enabled() and lift.key.requires_grad:
            raise ValueError(GRADIENTS)
        new = self._complete(lift.key_side(), lift)
        if not torch.is_inference_mode_enabled():  # what was stored there cannot be written here
            self._buffers = {
                name: x.clone() if x.is_inference() else x for name, x in self._buffers.items()
            }
        count = lift.key.shape[2]
        start, stop = self._first_needed(self._end), self._end + count
        if self.first and self._buffers:
            gone = {name: x[:, :, self._left : start] for name, x in self._buffers.items()}
            self._staying, self._left = self._staying.after(gone), start
        staying = self._staying
        if self._buffers and stop <= self._buffers["key"].shape[2]:
            for name, buffer in self._buffers.items():
                buffer[:, :, self._end : stop] = new[name]
            held = {name: x[:, :, start:stop] for name, x in self._buffers.items()}
            self._end = stop
        else:
            old = {name: x[:, :, start : self._end] for name, x in self._buffers.items()}
            held = {n: torch.cat([old[n], x], dim=2) if old else x for n, x in new.items()}
            self._store(held)
        self._length += count
        if lift.documents is not None:
            self.run = lift.documents.query[:, -1:]
        return lift.with_key_side(staying.before(held))

    def reorder(self, index: Int[Tensor, "rows"]) -> None:
        """Go on with the rows ``index`` of the batch (beams, finished rows)."""
        self._buffers = {
            # Positions that all rows share have a batch axis of 1.
            name: x if name.startswith("pair.") and x.shape[0] == 1 else x.index_select(0, index)
            for name, x in self._buffers.items()
        }
        self._staying = self._staying.reorder(index)
        self._count = None if self._count is None else self._count[index]
        if self.energy is not None:
            self.energy = self.energy.reorder(index)
        self.run = None if self.run is None else self.run[index]
        if self.document is not None and self.document.shape[0] > 1:
            self.document = self.document[index]

    def _first_needed(self, end: int) -> int:
        """The first stored key that the next query may see."""
        return 0 if self.window is None else max(0, end - (self.window - 1))

    def _store(self, held: dict[str, Tensor]) -> None:
        length = held["key"].shape[2]
        start = self._first_needed(length)
        if self.first:
            gone = {name: x[:, :, :start] for name, x in held.items()}
            self._staying, self._left = self._staying.after(gone), 0
        capacity = max(SMALLEST_CAPACITY, 2 * (length - start + 1))
        self._buffers = {}
        for name, x in held.items():
            buffer = x.new_zeros(*x.shape[:2], capacity, *x.shape[3:])
            buffer[:, :, : length - start] = x[:, :, start:]
            self._buffers[name] = buffer
        self._end = length - start

    def _complete(self, new: dict[str, Tensor], lift: Lift) -> dict[str, Tensor]:
        """The key side with the names that are stored: a bias that was or is 0 is not given."""
        batch, heads, count = lift.key.shape[:3]
        if self.first:
            new["rank"] = self._ranked(lift)
        if "key_bias" in new:
            new["key_bias"] = new["key_bias"].expand(batch, heads, count)
        if "documents" in new:
            new["documents"] = new["documents"].expand(batch, 1, count)
        if not self._buffers:
            return new
        if "key_bias" in new and "key_bias" not in self._buffers:
            shape = (batch, heads, self._buffers["key"].shape[2])
            self._buffers["key_bias"] = new["key_bias"].new_zeros(shape)
        elif "key_bias" in self._buffers and "key_bias" not in new:
            new["key_bias"] = self._buffers["key_bias"].new_zeros(batch, heads, count)
        if new.keys() != self._buffers.keys():
            raise ValueError(
                "documents were given in one call with this cache and not in another; give them "
                "in every call or in none"
            )
        return new

    def _ranked(self, lift: Lift) -> Tensor:
        """How many tokens that take part come before each in its document (batch, 1, key)."""
        batch, _, count = lift.key.shape[:3]
        real = torch.ones(batch, count, dtype=torch.bool, device=lift.key.device)
        if lift.key_bias is not None:
            real = take_part(lift.key_bias).expand(batch, -1)
        documents = None if lift.documents is None else lift.documents.query
        past = {} if self._count is None else {"past_count": self._count, "past_document": self.run}
        rank, self._count = token_positions(real, documents=documents, **past)
        return rank.unsqueeze(1)


class CouplingCache:
    """What one coupling module remembers: an ``AttentionCache`` for each of its steps.

    The phases a token shows at a later step are not those it came with.
    """

    def __init__(self, steps: list[AttentionCache]) -> None:
        self.steps = steps

    @property
    def length(self) -> int:
        """Number of tokens seen; left padding counts."""
        return self.steps[0].length

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(step.nbytes for step in self.steps)

    def reorder(self, index: Int[Tensor, "rows"]) -> None:
        """Go on with the rows ``index`` of the batch (beams, finished rows)."""
        for step in self.steps:
            step.reorder(index)


class LinearCache:
    """What one linear attention module remembers: sums, however many tokens there were."""

    def __init__(self) -> None:
        self.state: LinearState | None = None
        self._length = 0

    @property
    def length(self) -> int:
        """Number of tokens seen; left padding counts."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 0 if self.state is None else self.state.nbytes

    def advance(self, state: LinearState, tokens: int) -> None:
        """Take the sums after ``tokens`` more tokens."""
        if torch.is_grad_enabled() and state.product.requires_grad:
            raise ValueError(GRADIENTS)
        self.state, self._length = state, self._length + tokens

    def reorder(self, index: Int[Tensor, "rows"]) -> None:
        """Go on with the rows ``index`` of the batch (beams, finished rows)."""
        self.state = None if self.state is None else self.state.reorder(index)


class CrossCache:
    """What one cross-attention module remembers: the source, and how far the target has come.

    ``source`` is what the module made of the source at the first call, ``running`` the float64 sums
    of the target so far, ``listening`` the state of clocks that listen, ``passed`` (batch, head)
    which heads have passed the source's end.
    """

    def __init__(self) -> None:
        self.source: dict[str, Tensor] = {}
        self.owner: str | None = None
        self.running: Tensor | None = None
        self.listening: ClockState | None = None
        self.passed: Tensor | None = None
        self._length = 0

    @property
    def length(self) -> int:
        """Number of frames seen."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        held = [*self.source.values(), self.running, self.passed]
        if self.listening is not None:
            held += vars(self.listening).values()
        return sum(x.numel() * x.element_size() for x in held if x is not None)

    @property
    def finished(self) -> Bool[Tensor, "batch"]:
        """Rows whose median head has passed the source's end: where decoding may stop.

        Raises ``ValueError`` before the first frame, and for forward attention.
        """
        if self.passed is None and self._length > 0:
            raise ValueError(
                f"{self.owner} has no end to pass: its last token stays; stop by another sign"
            )
        if self.passed is None:
            raise ValueError("no frame was decoded with this cache yet")
        return self.passed.double().mean(-1) >= 0.5

    def claim(self, owner: str) -> None:
        """Raise ``TypeError`` if a module of another kind began this cache."""
        if self.owner not in (None, owner):
            raise TypeError(f"this cache is of a {self.owner}, not of a {owner}; make a new one")
        self.owner = owner

    def check(self, key: Tensor) -> None:
        """Raise ``ValueError`` unless ``key`` can be the source of the first call."""
        value = self.source["value"]
        if (key.shape[0], key.shape[1]) != (value.shape[0], value.shape[2]):
            raise ValueError(
                f"this cache holds a source of {value.shape[0]} rows and {value.shape[2]} tokens, "
                f"but the key has {key.shape[0]} and {key.shape[1]}; a new source needs a new cache"
            )

    def count(self, frames: int) -> None:
        """Take so many frames of a target that has no end."""
        self._length += frames

    def advance(
        self,
        running: Tensor,
        end: Tensor | int,
        frames: int,
        *,
        position: Tensor | None = None,
    ) -> None:
        """Take new sums (batch, head, ...), compared with ``end`` of the source as ``position``."""
        self.running = running
        position = running if position is None else position
        if isinstance(end, Tensor) and end.shape[1] not in (1, position.shape[1]):
            end = end.repeat_interleave(position.shape[1] // end.shape[1], dim=1)
        passed = (position >= end).squeeze(-1)
        self.passed = passed if self.passed is None else passed | self.passed
        self._length += frames

    def reorder(self, index: Int[Tensor, "rows"]) -> None:
        """Go on with the rows ``index`` of the batch (beams, finished rows)."""
        self.source = {name: x.index_select(0, index) for name, x in self.source.items()}
        self.running = None if self.running is None else self.running.index_select(0, index)
        self.listening = None if self.listening is None else self.listening.rows(index)
        self.passed = None if self.passed is None else self.passed.index_select(0, index)


class ModelCache:
    """The caches of a model's layers, and where each row's next token stands.

    ``layers`` is one cache a layer. Made by the models' ``new_cache``.
    """

    def __init__(self, layers: Sequence[AttentionCache | CouplingCache | LinearCache]) -> None:
        self.layers = layers
        self._count: Tensor | None = None
        self._document: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens seen; left padding counts."""
        return self.layers[0].length

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(layer.nbytes for layer in self.layers)

    def reorder(self, index: Int[Tensor, "rows"]) -> None:
        """Go on with the rows ``index`` of the batch (beams, finished rows)."""
        for layer in self.layers:
            layer.reorder(index)
        self._count, self._document = (
            None if x is None else x.index_select(0, index) for x in (self._count, self._document)
        )

    def positions(
        self, real: Bool[Tensor, "batch token"], documents: Int[Tensor, "#batch token"] | None
    ) -> tuple[Int[Tensor, "batch token"], Float[Tensor, "batch 1"]]:
        """Positions of the next tokens in their documents, and the count for ``advance``."""
        past = {"past_count": self._count, "past_document": self._document}
        return token_positions(real, documents=documents, **past)

    def advance(
        self, count: Float[Tensor, "batch 1"], documents: Int[Tensor, "#batch token"] | None
    ) -> None:
        """Remember where the tokens ended, once all layers have taken them."""
        self._count = count
        if documents is not None:
            self._document = documents[:, -1:].expand_as(count)
