"""Documents packed in one row: sums and positions that restart where a document begins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def token_positions(
    real: Bool[Tensor, "batch token"],
    *,
    documents: Int[Tensor, "#batch token"] | None = None,
    past_count: Float[Tensor, "batch 1"] | None = None,
    past_document: Int[Tensor, "batch 1"] | None = None,
) -> tuple[Int[Tensor, "batch token"], Float[Tensor, "batch 1"]]:
    """Positions 0, 1, 2 ... of the real tokens of each document, and how many the last one has.

    Padding, which is not ``real``, is not counted: tokens after padding on the left start at 0.
    ``past_count`` and ``past_document`` are those of the tokens before these.
    """
    counts = segment_sum(real.double().unsqueeze(1), document_starts(documents, real))
    if past_count is not None:
        goes_on = continues(documents, past_document, real)
        counts = counts + goes_on * past_count.unsqueeze(-1)
    counts = counts.squeeze(1)
    return (counts.long() - 1).clamp(min=0), counts[:, -1:]


def document_runs(
    documents: Int[Tensor, "batch token"],
    *,
    past_document: Int[Tensor, "#batch 1"] | None = None,
    past_run: Int[Tensor, "batch 1"] | None = None,
) -> Int[Tensor, "batch token"]:
    """Documents by number, 0, 1, 2 ... in each row: a label that recurs is another document.

    ``past_document`` and ``past_run`` are the label and the number of the token before these.
    """
    before = documents[:, :1] if past_document is None else past_document
    changes = torch.cat([before.expand(len(documents), 1), documents], dim=1).diff(dim=1) != 0
    runs = changes.long().cumsum(1)
    return runs if past_run is None else runs + past_run


def document_starts(documents: Tensor | None, real: Tensor) -> Int[Tensor, "batch token"] | None:
    """Where the document of each token begins, or None for one document."""
    if documents is None:
        return None
    documents = documents.expand_as(real)
    position = torch.arange(real.shape[1], device=real.device)
    begins = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    return torch.where(begins, position, 0).cummax(-1).values


def continues(
    documents: Tensor | None, past_document: Tensor | None, real: Tensor
) -> Float[Tensor, "batch 1 token"]:
    """1 where a token belongs to the last document of the past, else 0; float64.

    Raises ``ValueError`` where one call had labels and the other has none.
    """
    if (documents is None) != (past_document is None):
        raise ValueError(
            "documents were given in one call with this cache and not in another; give them in "
            "every call or in none"
        )
    goes_on = torch.ones_like(real)
    if documents is not None:
        goes_on = (documents == past_document).long().cummin(-1).values
    return goes_on.double().unsqueeze(1)


def segment_sum(
    x: Float[Tensor, "batch channel token"], start: Int[Tensor, "batch token"] | None
) -> Float[Tensor, "batch channel token"]:
    """Sums from the start of each token's document to the token.

    With several documents by doubling: differences of running sums would carry the rounding, or a
    not-a-number, of one document into the next.
    """
    if start is None:
        return x.cumsum(-1)
    position = torch.arange(x.shape[-1], device=x.device)
    step = 1
    while step < x.shape[-1]:
        inside = (position - step >= start).unsqueeze(1)
        earlier = F.pad(x[..., :-step], (step, 0))
        x = x + earlier.masked_fill(~inside, 0.0)
        step *= 2
    return x
