"""The energy gate as published, for experiments alone: in causal models it lets the future in."""

from __future__ import annotations

from ...nn import EnergyGate, register_gate


@register_gate("energy-leaking")
class LeakingGate(EnergyGate):
    """An energy gate standardized over the whole sequence that causal attention does not refuse.

    ``g_j = sigmoid(alpha ((e_j - mean(e)) / std(e) - tau))`` with mean and biased deviation over
    all tokens of the sequence, those after j included. Decoding with a cache standardizes over the
    tokens of each call and differs from the whole sequence.

    Source: the script published with arXiv 2605.26355. ``EnergyGate`` is the one to use.
    """

    def __init__(
        self, embed_dim: int, num_key_value_heads: int, *, alpha: float = 2.0, tau: float = 0.0
    ) -> None:
        super().__init__(
            embed_dim,
            num_key_value_heads,
            alpha=alpha,
            tau=tau,
            standardize="sequence",
            allow_future_leak=True,
        )

    def refuse_causal(self, why: str) -> None:
        """Nothing is refused: the leak is what is measured."""
        del why
