"""Particles under attention alone: what collapses, and what the two numbers mean."""

import math

import pytest
import torch
import torch.nn.functional as F

from resonant.diagnostics import clusters, collapse, residual
from resonant.diagnostics.collapse import MECHANISMS, SIGMA
from resonant.functional import krause_attention


def particles(count: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return F.normalize(torch.randn(1, 1, count, 3, generator=generator).double(), dim=-1)


@pytest.mark.slow
def test_softmax_and_kuramoto_collapse_and_krause_does_not() -> None:
    ends = {name: collapse(name, depths=(0, 200), particles=128) for name in MECHANISMS}
    for name in ("softmax", "kuramoto"):
        assert ends[name].clusters[1] == 1
        assert ends[name].residual[1] < 1e-3
    for name in ("krause", "softmax-sharp"):
        assert ends[name].clusters[1] > 3
        assert ends[name].residual[1] > 0.98
    assert ends["krause"].clusters[1] > ends["softmax-sharp"].clusters[1]
    # The same window alone does not keep particles apart.
    assert ends["softmax-window"].clusters[1] < ends["krause"].clusters[1] / 3
    assert len({world.clusters[0] for world in ends.values()}) == 1


def test_the_sharp_control_is_krause_without_its_mask() -> None:
    x = particles()
    theirs = krause_attention(x, x, x, SIGMA)
    assert (MECHANISMS["softmax-sharp"](x) - theirs).abs().max() < 1e-12


def test_particles_stay_on_the_sphere_and_repeat() -> None:
    world = collapse("krause", depths=(0, 5, 20), particles=40, seed=7)
    assert (world.states.norm(dim=-1) - 1).abs().max() < 1e-12
    assert world.states.equal(collapse("krause", depths=(0, 5, 20), particles=40, seed=7).states)
    assert not world.states[0].equal(collapse("krause", depths=(0,), particles=40).states[0])
    part = world.at((20,))
    assert part.depths == (20,)
    assert part.clusters == world.clusters[2:]
    assert part.states.equal(world.states[2:])


def test_the_two_numbers() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.05], [0.0, 1.0]])
    assert clusters(x) == 2
    assert clusters(x, angle=2.0) == 1
    assert residual(torch.ones(5, 3)) == 0.0
    assert residual(torch.tensor([[1.0], [-1.0]])) == 1.0
    chain = torch.tensor([[math.cos(a), math.sin(a)] for a in torch.arange(0, 1.5, 0.09)])
    assert clusters(chain) == 1
    assert residual(chain) > 0.3


def test_an_unknown_mechanism_is_named() -> None:
    with pytest.raises(ValueError, match=r"softmax, .*, not 'krauss'"):
        collapse("krauss")


@pytest.mark.parametrize("angle", [0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_clusters_are_connected_components(angle: float, seed: int) -> None:
    """As scipy finds them; among the tokens a chain, copies, and directions far apart."""
    from scipy.sparse.csgraph import connected_components

    generator = torch.Generator().manual_seed(seed)
    turn = torch.arange(90) * 0.9 * angle
    chain = torch.stack([turn.cos(), turn.sin(), torch.zeros(90)], dim=-1)
    x = torch.cat([chain, torch.randn(60, 3, generator=generator), chain[:5]])
    x = x[torch.randperm(len(x), generator=generator)].double()
    directions = torch.nn.functional.normalize(x, dim=-1)
    near = (directions @ directions.mT >= math.cos(angle)).numpy()
    assert clusters(x, angle) == connected_components(near, directed=False)[0]
