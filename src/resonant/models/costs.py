"""What a language model costs for each token, counted from its configuration alone; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ..mechanism import known_mechanism
from .language_configs import LanguageModelConfig

FLOAT = 4  # bytes of a number in float32


@dataclass(frozen=True)
class TokenCost:
    """``parameters``; FLOPs of forward and backward, and of decoding, for a token at ``context``.

    ``cache_bytes`` is what the caches of a row hold after ``context`` tokens, in float32: with a
    window of W at most 2 W keys a layer, however many tokens there were.
    """

    parameters: int
    training_flops: int
    decoding_flops: int
    cache_bytes: int


def token_cost(config: LanguageModelConfig, context: int) -> TokenCost:
    """``TokenCost`` of ``config`` at ``context`` tokens.

    Two FLOPs for each weight of a matrix a token passes, and for each feature of each key that it
    meets, in scores and in values; the backward pass is twice the forward. Attention in a window is
    counted as the window; norms, softmax and the choice of the top k are left out.
    """
    head = config.width // config.heads
    key_heads = config.key_value_heads or config.heads
    projections = 2 * config.width**2 + 2 * config.width * key_heads * head
    feed_forward = 3 * config.width * config.hidden
    matrices = config.layers * (projections + feed_forward)
    attention = config.attention
    embedding = config.vocabulary * config.width
    norms = (2 * config.layers + 1) * config.width
    known = known_mechanism(attention.mechanism)
    scalars = config.layers * config.heads * (len(known.scalars) if known else 0)
    first = attention.past["first"]
    met = context if attention.window is None else min(context, attention.window + first)
    lifted = head + (known.key_features if known else 0)
    # Causal attention meets half of its context on average while training.
    seen = context / 2 if met == context else met
    weights = 2 * (matrices + embedding)
    of_keys = 2 * config.layers * config.heads * (lifted + head)
    kept = context if attention.window is None else min(context, 2 * attention.window + first)
    return TokenCost(
        parameters=matrices + embedding + norms + scalars,
        training_flops=round(3 * (weights + of_keys * seen)),
        decoding_flops=weights + of_keys * met,
        cache_bytes=config.layers * key_heads * (lifted + head) * kept * FLOAT,
    )
