"""Laws for mechanisms and for models, ours and yours, to be called from tests.

``check_mechanism("mine")`` holds a registered mechanism to every law; ``assert_causal(model)``,
``assert_padding(model)`` and ``assert_cache(model)`` hold any model to what `resonant check` does.

Each law draws its own inputs, raises ``AssertionError`` with the mechanism, the circumstances and
the size of the violation, and returns nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from ..functional import Mechanism, mechanism
from .faults import law_bad_numbers, law_empty, law_lone_rows, law_masks, law_ties
from .laws import (
    Inputs,
    draw,
    law_blind_rows,
    law_cache,
    law_causality,
    law_gradients,
    law_off,
    law_padding,
    law_paths,
    law_permutation,
)
from .models import assert_cache, assert_causal, assert_padding

__all__ = [
    "LAWS",
    "Inputs",
    "assert_cache",
    "assert_causal",
    "assert_padding",
    "check_mechanism",
    "draw",
]

LAWS: dict[str, Callable[[Mechanism], None]] = {
    "causality": law_causality,
    "off": law_off,
    "padding": law_padding,
    "permutation": law_permutation,
    "gradients": law_gradients,
    "paths": law_paths,
    "blind rows": law_blind_rows,
    "cache": law_cache,
    "ties": law_ties,
    "empty": law_empty,
    "masks": law_masks,
    "lone rows": law_lone_rows,
    "bad numbers": law_bad_numbers,
}


def check_mechanism(name: str) -> None:
    """Hold the mechanism registered as ``name`` to every law.

    Raises ``AssertionError`` from the first law that fails, ``ValueError`` for an unknown name,
    ``RuntimeError`` under ``python -O``, which takes assertions away.
    """
    if not __debug__:
        raise RuntimeError("laws are assertions, which python -O takes away; leave out -O")
    of = mechanism(name)
    for law in LAWS.values():
        law(of)
