"""Energy gates: each key's weight times a sigmoid of how much it stands out from what came before.

A gate depends on the key alone, so it is a key bias, ``log g``, and works with every mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .documents import continues, document_starts, segment_sum
from .lift import Lift

Standardize = Literal["prefix", "sequence", "none"]
STANDARDIZE: tuple[Standardize, ...] = ("prefix", "sequence", "none")

VARIANCE_FLOOR = 1e-6  # added to the variance of a prefix
DEVIATION_FLOOR = 1e-8  # least standard deviation of a whole sequence, as published
# A threshold this low opens the gate entirely; infinity would make its gradient 0 times infinity.
LOWEST_TAU = -10_000.0


@dataclass(frozen=True)
class PrefixSums:
    """What prefix standardization remembers of the keys so far, in float64.

    Of the current document: the number of real keys ``count`` (batch, 1), the first energy
    ``first`` (batch, key_head), and the sums ``total`` and ``squares`` (batch, key_head) of
    energies less the first and of their squares. ``document`` (batch, 1) is its label, None
    without labels.
    """

    count: Float[Tensor, "batch 1"]
    first: Float[Tensor, "batch key_head"]
    total: Float[Tensor, "batch key_head"]
    squares: Float[Tensor, "batch key_head"]
    document: Int[Tensor, "batch 1"] | None = None

    def reorder(self, index: Int[Tensor, "rows"]) -> PrefixSums:
        """The rows ``index`` of the batch."""
        return PrefixSums(*(None if x is None else x[index] for x in vars(self).values()))  # type: ignore[arg-type]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(x.numel() * x.element_size() for x in vars(self).values() if x is not None)


def standardize_prefix(
    energy: Float[Tensor, "batch key_head key"],
    *,
    mask: Bool[Tensor, "batch key"] | None = None,
    documents: Int[Tensor, "#batch key"] | None = None,
    past: PrefixSums | None = None,
) -> tuple[Float[Tensor, "batch key_head key"], PrefixSums]:
    """``z_j = (e_j - mean_{u <= j} e_u) / sqrt(var_{u <= j} e_u + 1e-6)``, and the sums so far.

    Mean and biased variance run over real keys (``mask`` True) of the same document up to j, so
    that ``z_j`` depends on nothing later and the first key has z = 0. ``past`` are the sums of the
    keys before these. Sums are float64 of energies less the first one: in float32 an outlying first
    token costs the precision of all that follow.

    Source: ours; arXiv 2605.26355 standardizes over the whole sequence, see ``energy_log_gate``.
    """
    batch, _, length = energy.shape
    if length == 0:  # nothing is added, and there is nothing to standardize
        none = energy.double().sum(-1)
        sums = PrefixSums(none[:, :1], none, none, none) if past is None else past
        return energy.to(torch.promote_types(energy.dtype, torch.float32)), sums
    real = torch.ones(batch, length, dtype=torch.bool, device=energy.device)
    real = real if mask is None else mask
    if documents is not None:
        documents = documents.expand(batch, length)
    start = document_starts(documents, real)
    count = segment_sum(real.double().unsqueeze(1), start)
    goes_on = torch.zeros_like(count)
    if past is not None:
        goes_on = continues(documents, past.document, real)
        count = count + goes_on * past.count.unsqueeze(-1)
    first = _first_energy(energy.detach().double(), real, count, goes_on=goes_on, past=past)
    centered = (energy.double() - first).masked_fill(~real.unsqueeze(1), 0.0)
    total, squares = segment_sum(centered, start), segment_sum(centered.square(), start)
    if past is not None:
        total = total + goes_on * past.total.unsqueeze(-1)
        squares = squares + goes_on * past.squares.unsqueeze(-1)
    mean = total / count.clamp(min=1.0)
    # Rounding can push the variance of equal energies below 0.
    variance = (squares / count.clamp(min=1.0) - mean.square()).clamp(min=0.0)
    z = (centered - mean) * (variance + VARIANCE_FLOOR).rsqrt()
    label = None if documents is None else documents[:, -1:]
    z = z.to(torch.promote_types(energy.dtype, torch.float32))
    count, first, total, squares = (x[..., -1] for x in (count, first, total, squares))
    return z, PrefixSums(count, first, total, squares, label)


def standardized(
    energy: Float[Tensor, "batch key_head key"],
    *,
    standardize: Standardize = "prefix",
    mask: Bool[Tensor, "batch key"] | None = None,
    documents: Int[Tensor, "#batch key"] | None = None,
    allow_future_leak: bool = False,
) -> Float[Tensor, "batch key_head key"]:
    """Energies as numbers of standard deviations, float32 or better; see ``energy_log_gate``."""
    check_standardize(standardize, allow_future_leak=allow_future_leak)
    if standardize == "prefix":
        return standardize_prefix(energy, mask=mask, documents=documents)[0]
    if standardize == "sequence":
        return _standardize_sequence(energy, mask, documents)
    return energy.to(torch.promote_types(energy.dtype, torch.float32))


def log_gate(
    z: Float[Tensor, "*batch key_head key"],
    alpha: float | Float[Tensor, "#key_head"],
    tau: float | Float[Tensor, "#key_head"],
) -> Float[Tensor, "*batch key_head key"]:
    """``logsigmoid(alpha (z - tau))`` of standardized energies."""
    alpha, tau = (torch.as_tensor(x, device=z.device).to(z.dtype) for x in (alpha, tau))
    tau = tau.clamp(min=LOWEST_TAU)
    return F.logsigmoid(alpha.reshape(-1, 1) * (z - tau.reshape(-1, 1)))


def energy_log_gate(
    energy: Float[Tensor, "batch key_head key"],
    alpha: float | Float[Tensor, "#key_head"],
    tau: float | Float[Tensor, "#key_head"],
    *,
    standardize: Standardize = "prefix",
    mask: Bool[Tensor, "batch key"] | None = None,
    documents: Int[Tensor, "#batch key"] | None = None,
    allow_future_leak: bool = False,
) -> Float[Tensor, "batch key_head key"]:
    """``log g_j = logsigmoid(alpha (z_j - tau))`` with z the standardized energy.

    ``alpha`` (steepness) and ``tau`` (threshold, in standard deviations) are numbers or
    (key_head,); ``mask`` True = a real key, ``documents`` labels of documents packed in one row,
    over whose boundaries no statistic runs. The result is float32 or better. ``standardize``:

    - "prefix": by mean and variance of the keys up to j (``standardize_prefix``); causal.
    - "sequence": by those of the whole sequence, as published, with the standard deviation (biased)
      held above 1e-8. **Every key's gate then depends on the future**; with causal attention a
      model reads off what it is to predict. Needs ``allow_future_leak=True``.
    - "none": z = energy.

    Raises ``ValueError`` for an unknown ``standardize``, and for "sequence" unless allowed.

    Source: arXiv 2605.26355, energy-gated attention (gate first in 2605.21842). Differs: prefix
    statistics by default.
    """
    options = {"standardize": standardize, "allow_future_leak": allow_future_leak}
    return log_gate(standardized(energy, mask=mask, documents=documents, **options), alpha, tau)


def energy_gate(
    lift: Lift,
    energy: Float[Tensor, "batch key_head key"],
    alpha: float | Float[Tensor, "#key_head"],
    tau: float | Float[Tensor, "#key_head"],
    **options: Any,
) -> Lift:
    """The same lift with every key's weight gated: ``A'_ij = A_ij g_j / sum_j A_ij g_j``.

    Arguments and options (``standardize``, ``mask``, ``documents``, ``allow_future_leak``), errors
    and source: see ``energy_log_gate``. With alpha = 0 the logits stay exactly what they were.
    """
    return gate_keys(lift, standardized(energy, **options), alpha, tau)


def gate_keys(
    lift: Lift,
    z: Float[Tensor, "batch key_head key"],
    alpha: float | Float[Tensor, "#key_head"],
    tau: float | Float[Tensor, "#key_head"],
) -> Lift:
    """``energy_gate`` by energies that are standardized already.

    ``log g_j - log g(z = 0)`` is added: the second term is the same for all keys and changes no
    weight, but leaves exactly nothing of a gate that is off.
    """
    neutral = log_gate(z.new_zeros(z.shape[1], 1), alpha, tau)
    return lift.add_bias(log_gate(z, alpha, tau) - neutral)


def check_standardize(standardize: str, *, allow_future_leak: bool) -> None:
    """Raise ``ValueError`` unless ``standardize`` is known and allowed."""
    if standardize not in STANDARDIZE:
        raise ValueError(f"standardize is one of {', '.join(STANDARDIZE)}; it is {standardize!r}")
    if standardize == "sequence" and not allow_future_leak:
        raise ValueError(
            'standardize="sequence" lets the future into every gate; use "prefix", or pass '
            "allow_future_leak=True where nothing is causal"
        )
    if allow_future_leak and standardize != "sequence":
        raise ValueError(
            f'allow_future_leak allows standardize="sequence"; standardize is {standardize!r}, '
            "which lets no future in: leave allow_future_leak out"
        )


def _standardize_sequence(energy: Tensor, mask: Tensor | None, documents: Tensor | None) -> Tensor:
    """By the real keys of the whole sequence, or of one's own document."""
    wide = energy.double()
    batch, _, length = energy.shape
    together = torch.ones(batch, 1, length, device=energy.device, dtype=torch.float64)
    if mask is not None:
        wide = wide.masked_fill(~mask.unsqueeze(1), 0.0)
        together = together * mask.unsqueeze(1)
    if documents is None:
        count = together.sum(-1, keepdim=True).clamp(min=1.0)
        centered = wide - wide.sum(-1, keepdim=True) / count
        variance = (centered.square() * together).sum(-1, keepdim=True) / count
    else:
        same = (documents.unsqueeze(-1) == documents.unsqueeze(-2)).double() * together
        count = same.sum(-1).clamp(min=1.0).unsqueeze(1)
        mean = (wide @ same.mT) / count
        centered = wide - mean
        variance = (centered.square() @ same.mT) / count
    z = centered / variance.clamp(min=DEVIATION_FLOOR**2).sqrt()
    return z.to(torch.promote_types(energy.dtype, torch.float32))


def _first_energy(
    energy: Tensor, real: Tensor, count: Tensor, *, goes_on: Tensor, past: PrefixSums | None
) -> Tensor:
    """(batch, key_head, key): the energy of the first real key of each key's document."""
    position = torch.arange(energy.shape[-1], device=energy.device)
    is_first = real & (count.squeeze(1) == 1.0)
    index = torch.where(is_first, position, 0).cummax(-1).values
    first = energy.gather(-1, index.unsqueeze(1).expand_as(energy))
    if past is None:
        return first
    known = (goes_on * past.count.unsqueeze(-1)) > 0
    return torch.where(known, past.first.unsqueeze(-1), first)
