"""The energy gate as a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import nearest
from ..functional.energy import (
    Standardize,
    check_standardize,
    gate_keys,
    standardize_prefix,
    standardized,
)
from ..functional.lift import Lift
from ..functional.mask import real_keys
from .cache import AttentionCache
from .parameter import HeadScalar


class EnergyGate(nn.Module):
    """Gates keys by their energy: ``A'_ij = A_ij g_j / sum_j A_ij g_j``, for any mechanism.

    ``e_j = w . x_j``, ``g_j = sigmoid(alpha (z_j - tau))`` with z the standardized energy; w, alpha
    (steepness) and tau (threshold, in standard deviations) are learned per key head. Give it to an
    attention module: ``SoftmaxAttention(64, 4, gate=EnergyGate(64, 4))``; ``embed_dim`` is the
    width of what keys are projected from (``kdim``).

    ``standardize``: "prefix" (causal), "sequence" (as published; the future reaches every gate, so
    it needs ``allow_future_leak=True`` and is refused wherever attention is or may be causal: with
    ``Causal``, ``is_causal``, an ``attn_mask`` or a cache; for bidirectional encoders) or "none"
    (the energy as it is, with a learned bias). Otherwise w has no bias, which standardizing would
    cancel, and wants no weight decay.

    Where energies so far are all alike (a row that starts with one repeated token) the gradient is
    steep: 1 / sqrt(1e-6).

    Raises ``ValueError`` for an unknown ``standardize`` or one that is refused.

    Source: arXiv 2605.26355. Differs: prefix statistics; the paper's order is softmax, dropout,
    gate, renormalize, ours drops out last: the same mean path, other noise.
    """

    OFF: ClassVar[dict[str, float]] = {"alpha": 0.0, "tau": float("-inf")}
    no_weight_decay = ("energy.weight",)

    def __init__(
        self,
        embed_dim: int,
        num_key_value_heads: int,
        *,
        alpha: float = 2.0,
        tau: float = 0.0,
        standardize: Standardize = "prefix",
        allow_future_leak: bool = False,
    ) -> None:
        super().__init__()
        check_standardize(standardize, allow_future_leak=allow_future_leak)
        self.standardize: Standardize = standardize
        self.energy = nn.Linear(embed_dim, num_key_value_heads, bias=standardize == "none")
        self.alpha = HeadScalar(num_key_value_heads, alpha, positive=False)
        self.tau = HeadScalar(num_key_value_heads, tau, positive=False)

    def refuse_causal(self, why: str) -> None:
        """Raise ``ValueError`` if this gate lets the future in; ``why`` says what is causal."""
        if self.standardize == "sequence":
            raise ValueError(
                f'a gate with standardize="sequence" lets the future into the past, and {why}; '
                'use standardize="prefix"'
            )

    def watch(self, z: Float[Tensor, "batch key_head key"]) -> None:
        """Hook for diagnostics: the standardized energies."""

    def forward(
        self,
        lift: Lift,
        source: Float[Tensor, "batch key embed_dim"],
        *,
        key_padding_mask: Tensor | None = None,
        documents: Int[Tensor, "#batch key"] | None = None,
        cache: AttentionCache | None = None,
    ) -> Lift:
        """The lift with its keys gated; ``source`` is what the keys are projected from.

        ``key_padding_mask`` True = padding. ``cache`` holds the sums of earlier keys.
        """
        energy = self.energy(source).mT
        real = real_keys(key_padding_mask)
        if self.standardize == "prefix":
            past = None if cache is None else cache.energy
            z, sums = standardize_prefix(energy, mask=real, documents=documents, past=past)
            if cache is not None:
                cache.energy = sums
        else:
            z = standardized(
                energy,
                standardize=self.standardize,
                mask=real,
                documents=documents,
                allow_future_leak=self.standardize == "sequence",  # demanded at construction
            )
        self.watch(z)
        return gate_keys(lift, z, self.alpha(), self.tau())

    def extra_repr(self) -> str:
        return f"standardize={self.standardize}"


G = TypeVar("G", bound=type[EnergyGate])
_GATES: dict[str, Callable[..., EnergyGate]] = {"energy": EnergyGate}


def registered_gates() -> dict[str, Callable[..., EnergyGate]]:
    """List the gates that there are, by name."""
    return dict(_GATES)


def register_gate(name: str) -> Callable[[G], G]:
    """Decorator: make a kind of ``EnergyGate`` a choice of ``model.attention.gate`` under ``name``.

    It is built as ``gate(embed_dim, num_key_value_heads)``. One that sees the future says so by
    ``standardize = "sequence"``, as ``EnergyGate`` does.

    Raises ``ValueError`` for a name that is taken, ``TypeError`` for what is no ``EnergyGate``.
    """

    def enrol(gate: G) -> G:
        if not (isinstance(gate, type) and issubclass(gate, EnergyGate)):
            raise TypeError(f"{name!r} is a gate only as a subclass of EnergyGate; it is {gate!r}")
        if name in _GATES:
            raise ValueError(f"a gate named {name!r} is registered already; choose another")
        _GATES[name] = gate
        return gate

    return enrol


def build_gate(
    name: str, embed_dim: int, num_key_value_heads: int, *, standardize: str = "prefix"
) -> EnergyGate:
    """The gate registered under ``name``; ``ValueError`` names the nearest if there is none.

    ``standardize`` is for "energy"; any other value than "prefix" is refused elsewhere.
    """
    if name not in _GATES:
        raise ValueError(
            f"no gate is called {name!r}; {nearest(name, _GATES)} (one of your own needs "
            "resonant.nn.register_gate first)"
        )
    if name == "energy":
        return EnergyGate(embed_dim, num_key_value_heads, standardize=standardize)  # type: ignore[arg-type]
    if standardize != "prefix":
        raise ValueError(f"standardize is read by the gate 'energy'; the gate here is {name!r}")
    return _GATES[name](embed_dim, num_key_value_heads)
