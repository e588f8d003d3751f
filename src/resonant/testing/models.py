"""Assertions about any model, ours or not: what `resonant check` finds, for tests."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..checks import Verdict, check_cache, check_causality, check_padding, guess_subject
from ..checks.calls import Subject


def assert_causal(
    model: Any, inputs: Tensor | None = None, *, tolerance: float = 0.0, **how: Any
) -> None:
    """Assert that no output of ``model`` depends on a later input.

    ``inputs`` (token ids or features, batch first) are guessed if left out; ``how`` are fields of
    ``resonant.checks.Subject`` (``options``, ``sequence_axis``, ``mask_argument``, ``mask_means``)
    or, for the guess, ``vocabulary``, ``width`` and ``length``.

    Raises ``AssertionError`` naming the first layer that fails, ``ValueError`` for inputs that do
    not fit.
    """
    _demand(check_causality(_subject(model, inputs, how), tolerance=tolerance))


def assert_padding(
    model: Any, inputs: Tensor | None = None, *, tolerance: float = 0.0, **how: Any
) -> None:
    """Assert that masked padding changes nothing; arguments and errors as ``assert_causal``."""
    _demand(check_padding(_subject(model, inputs, how), tolerance=tolerance))


def assert_cache(model: Any, inputs: Tensor | None = None, **how: Any) -> None:
    """Assert that decoding with a cache is the full pass; arguments as ``assert_causal``."""
    _demand(check_cache(_subject(model, inputs, how)))


def _subject(model: Any, inputs: Tensor | None, how: dict[str, Any]) -> Subject:
    return guess_subject(model, **how) if inputs is None else Subject(model, inputs, **how)


def _demand(verdict: Verdict) -> None:
    if verdict.status != "holds":
        raise AssertionError(f"{verdict.check} {verdict.status}: {verdict.says}")
