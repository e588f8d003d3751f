"""One record a mechanism: what it says of itself is what its module and its lift do."""

import subprocess
import sys

import pytest
import torch

import resonant.nn
from resonant.mechanism import OURS, Mechanism, branching, crossing, mechanism, mechanisms
from resonant.nn import HeadScalar
from resonant.nn.attention import Attention

WITH_MODULES = [each for each in OURS if each.module is not None]


def built(one: Mechanism) -> torch.nn.Module:
    """Its module, 16 wide with two heads."""
    kind = one.load_module()
    return Attention(one.name, 16, 2) if kind is None else kind(16, 2)


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.name)
def test_its_scalars_are_those_its_module_learns(one: Mechanism) -> None:
    learned = {n.split(".")[-1] for n, m in built(one).named_modules() if isinstance(m, HeadScalar)}
    optional = {"kappa"}  # a strength, no scalar a head
    assert learned | optional >= set(one.scalar_names)
    assert learned <= set(one.scalar_names)


@pytest.mark.parametrize("one", OURS, ids=lambda one: one.name)
def test_what_it_says_of_its_module(one: Mechanism) -> None:
    module = built(one)
    assert isinstance(module, Attention) == one.projects
    assert (one.name in mechanisms()) == (one.projects or one.couples_phases)
    if one.timed:
        with pytest.raises(ValueError, match="attends from one sequence to another by time alone"):
            resonant.nn.attention(one.name, 16, 2)
    else:
        assert type(resonant.nn.attention(one.name, 16, 2)) is type(module)


@pytest.mark.parametrize("one", [e for e in OURS if e.projects], ids=lambda one: one.name)
def test_a_lifted_key_has_as_many_numbers_as_it_says(one: Mechanism) -> None:
    heads = torch.randn(3, 1, 2, 5, 8).unbind()
    scalars = {name: torch.full((2,), scalar.start) for name, scalar in one.scalars.items()}
    lift = mechanism(one.name).lift(*heads, **scalars)
    assert lift.key.shape[-1] == 8 + one.key_features


def test_krause_starts_as_near_to_softmax_as_it_can() -> None:
    assert mechanism("krause").like_softmax(16) == {"sigma": 2.0}
    assert mechanism("softmax").like_softmax(16) == {}


def test_who_crosses_and_who_branches() -> None:
    assert crossing() == ("softmax", "krause", "kuramoto", "gaussian-mixture", "forward", "clock")
    assert branching() == ("softmax", "krause")


def test_what_has_no_lift_says_so() -> None:
    with pytest.raises(TypeError, match="has no lift of queries, keys and values"):
        mechanism("clock").lift(1, 2, 3)


def test_records_are_read_without_torch() -> None:
    code = "import sys; from resonant.mechanism import OURS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
