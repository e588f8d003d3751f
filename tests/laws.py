"""The direct formula of every mechanism, differences formed first: the yardstick of precision.

A built-in mechanism without an entry fails ``test_precision``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def plain_softmax(query: Tensor, key: Tensor) -> Tensor:
    return (query / math.sqrt(query.shape[-1])) @ key.mT


def plain_krause(query: Tensor, key: Tensor, sigma: Tensor) -> Tensor:
    distance = (query.unsqueeze(-2) - key.unsqueeze(-3)).square().sum(-1)
    return -distance / (2 * sigma.to(query.dtype).square()[:, None, None])


def plain_sink(query: Tensor, key: Tensor, sink: Tensor) -> Tensor:
    """The sink is one more column, whose weight ``plain_attention`` throws away."""
    column = sink.to(query.dtype)[:, None, None].expand(*query.shape[:-1], 1)
    return torch.cat([plain_softmax(query, key), column], dim=-1)


def plain_kuramoto(query: Tensor, key: Tensor, beta: Tensor) -> Tensor:
    cosines = (query.unsqueeze(-2) - key.unsqueeze(-3)).cos().sum(-1)
    return beta.to(query.dtype)[:, None, None] * cosines / math.sqrt(query.shape[-1])


PLAIN_SCORES: dict[str, Callable[..., Tensor]] = {
    "softmax": plain_softmax,
    "softmax-sink": plain_sink,
    "krause": plain_krause,
    "kuramoto": plain_kuramoto,
}


def plain_attention(
    name: str,
    tensors: tuple[Tensor, ...],
    scalars: dict[str, Tensor],
    allowed: Tensor | None,
    bias: Tensor | float = 0.0,
) -> Tensor:
    """Scores by the definition, a bias, softmax and mean, all in the dtype of the inputs."""
    query, key, value = tensors
    scores = PLAIN_SCORES[name](query, key, **scalars)
    keys = key.shape[-2]
    scores[..., :keys] = scores[..., :keys] + bias
    if allowed is not None:
        scores[..., :keys] = scores[..., :keys].masked_fill(~allowed, -math.inf)
    return scores.softmax(-1)[..., :keys] @ value


def root_mean_square(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


def over_budget(ours: Tensor, plain: Tensor, exact: Tensor, dtype: torch.dtype, factor: float):
    """Error as a share of the budget: ``factor`` times the plain run's, plus eps / 8 of size."""
    budget = factor * root_mean_square(plain.double() - exact)
    budget += torch.finfo(dtype).eps / 8 * root_mean_square(exact)
    return root_mean_square(ours.double() - exact) / budget
