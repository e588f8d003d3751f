"""The whole sequence in one call of the fused kernel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..lift import Lift
from ..neighborhood import Causal, Neighborhood, positions, visible
from .chunked import merge_masks
from .kernel import fused_kernel


def fused_attention(lift: Lift, neighborhood: Neighborhood, mask: Tensor | None = None) -> Tensor:
    """Attention over everything, or causally with at least as many queries as keys.

    With more queries than keys the first ``L - S`` see nothing and give zeros.
    """
    if not isinstance(neighborhood, Causal):
        return fused_kernel(lift, mask)
    queries, keys = lift.query.shape[2], lift.key.shape[2]
    blind = queries - keys
    seeing = lift if blind == 0 else lift.queries(blind, queries)
    if mask is None:
        output = fused_kernel(seeing, is_causal=True)
    else:
        seen = mask if mask.shape[2] == 1 else mask[:, :, blind:]
        allowed = visible(neighborhood, *positions(keys, keys, lift.query.device))
        output = fused_kernel(seeing, merge_masks(allowed, seen))
    return output if blind == 0 else F.pad(output, (0, 0, blind, 0))
