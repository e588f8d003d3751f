"""Particles on a sphere moved by attention alone: which mechanisms let everything collapse?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..functional import Band, krause_attention, kuramoto_coupling, softmax_attention
from ..functional.manifold import Sphere
from .components import count_components

SPHERE = Sphere(3)
ANGLE = 0.1  # radians: neighbours this near are of one cluster

# All constants of the world: who sees whom, and how sharply.
WINDOW = Band(16)
TOP_K = 8
SIGMA = 0.3

Move = Callable[[Tensor], Tensor]  # (1, 1, particle, 3) -> the mean that each particle is drawn to


def _kuramoto(x: Tensor) -> Tensor:
    point = x.unsqueeze(-1)
    return kuramoto_coupling(point, manifold=SPHERE).squeeze(-1)


# What is pulled where. On a sphere keys have equal norms, so Krause's kernel without a window and
# top-k is softmax with scale 1 / sigma^2: "softmax-sharp" says what sharpness alone does.
MECHANISMS: dict[str, Move] = {
    "softmax": lambda x: softmax_attention(x, x, x),
    "softmax-window": lambda x: softmax_attention(x, x, x, neighborhood=WINDOW),
    "softmax-sharp": lambda x: softmax_attention(x * (3**0.5 / SIGMA**2), x, x),
    "krause": lambda x: krause_attention(x, x, x, SIGMA, neighborhood=WINDOW, top_k=TOP_K),
    "kuramoto": _kuramoto,
}


@dataclass(frozen=True)
class Collapse:
    """Where particles were, by depth, and two numbers for each depth.

    ``states`` (depth, particle, 3); ``clusters`` and ``residual`` as the functions of these names
    say.
    """

    mechanism: str
    depths: tuple[int, ...]
    states: Float[Tensor, "depth particle 3"]
    clusters: tuple[int, ...]
    residual: tuple[float, ...]

    def at(self, depths: Sequence[int]) -> Collapse:
        """The same at some of its depths."""
        kept = [self.depths.index(depth) for depth in depths]
        return Collapse(
            self.mechanism,
            tuple(depths),
            self.states[kept],
            tuple(self.clusters[i] for i in kept),
            tuple(self.residual[i] for i in kept),
        )


@torch.no_grad()
def collapse(
    mechanism: str,
    *,
    depths: Sequence[int] = (0, 10, 30, 100, 400),
    particles: int = 256,
    step: float = 0.1,
    seed: int = 0,
) -> Collapse:
    """Move ``particles``, drawn uniformly on the unit sphere, by one attention layer after another.

    ``x <- exp_x(step P_x m(x))`` with m the mechanism's weighted mean of all that a particle sees,
    P_x the tangent part at x and exp the sphere's exponential map; queries, keys and values are the
    particles themselves, in float64. ``depths`` are the numbers of layers at which to look.

    Raises ``ValueError`` for an unknown mechanism. After the explanation that arXiv 2602.11534
    gives of Krause attention; the world, its constants and the controls are ours.
    """
    if mechanism not in MECHANISMS:
        raise ValueError(f"collapse knows {', '.join(MECHANISMS)}, not {mechanism!r}")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 1, particles, 3, generator=generator, dtype=torch.float64)
    x = F.normalize(x, dim=-1)
    states = []
    for depth in range(max(depths) + 1):
        if depth in depths:
            states.append(x[0, 0])
        x = _moved(x, step * MECHANISMS[mechanism](x))
    kept = torch.stack(states)
    return Collapse(
        mechanism,
        tuple(sorted(set(depths))),
        kept,
        tuple(clusters(each) for each in kept),
        tuple(residual(each) for each in kept),
    )


def _moved(x: Tensor, towards: Tensor) -> Tensor:
    point = x.unsqueeze(-1)
    velocity = SPHERE.tangent(point, towards.unsqueeze(-1))
    return F.normalize(SPHERE.retract(point, velocity).squeeze(-1), dim=-1)


def residual(x: Float[Tensor, "token dim"]) -> float:
    """``|X - 1 mean(X)|_F / |X|_F``: 0 when all tokens are the same, near 1 when spread out."""
    size = torch.linalg.matrix_norm(x).clamp(min=torch.finfo(x.dtype).tiny)
    return (torch.linalg.matrix_norm(x - x.mean(0)) / size).item()


def clusters(x: Float[Tensor, "token dim"], angle: float = ANGLE) -> int:
    """Connected components of tokens whose directions differ by at most ``angle`` radians.

    A chain of near neighbours is one cluster, however long: read it beside the residual.
    """
    directions = F.normalize(x, dim=-1)
    near = directions @ directions.mT >= math.cos(angle)
    return count_components(near)
