"""Order parameters, clusters and paths: limits, padding, and phases put there by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

import resonant
from resonant.diagnostics import PhaseRecord, record_phases
from resonant.functional.manifold import Circle, Manifold, manifold
from resonant.nn import KuramotoAttention, PhaseAdapter

COORDINATES = 3


def record(
    angles: Tensor, weights: Tensor | None = None, real: Tensor | None = None
) -> PhaseRecord:
    """Of phases (state, token) that all coordinates of one head share."""
    states, tokens = angles.shape
    points = angles[:, None, :, None, None, None].expand(-1, -1, -1, 1, 1, COORDINATES)
    x = Circle().embed(points.contiguous())
    if weights is None:
        weights = torch.full((states - 1, 1, 1, tokens, tokens), 1 / tokens)
    if real is None:
        real = torch.ones(1, tokens, dtype=torch.bool)
    return PhaseRecord(Circle(), x, x[:-1], x[1:], weights, real)


def test_order_is_one_in_step_and_nought_around_the_circle() -> None:
    around = torch.arange(8) * math.pi / 4
    order = record(torch.stack([torch.full((8,), 0.7), around])).order().flatten()
    torch.testing.assert_close(order, torch.tensor([1.0, 0.0]), atol=1e-6, rtol=0)
    half = record(torch.tensor([[0.0, math.pi / 2]] * 2)).order().flatten()
    torch.testing.assert_close(half, torch.full((2,), math.sqrt(0.5)))


def test_padding_counts_for_nothing() -> None:
    angles = torch.tensor([[0.0, 0.0, 3.0]] * 2)
    real = torch.tensor([[True, True, False]])
    padded = record(angles, real=real)
    assert padded.order().flatten().tolist() == pytest.approx([1.0, 1.0])
    assert padded.clusters().flatten().tolist() == [1, 1]
    assert padded.local_order()[0, 0, 0].isnan().tolist() == [False, False, True]
    assert record(angles).clusters().flatten().tolist() == [2, 2]


def test_who_attends_to_nobody_has_no_local_order() -> None:
    model = resonant.phase_language_model("0.11M", successors=True)
    found = record_phases(model, torch.randint(0, 256, (1, 12))).local_order()
    assert found[..., 0].isnan().all()
    assert found[..., 1:].isfinite().all()


def test_local_order_is_of_those_listened_to() -> None:
    angles = torch.tensor([[0.0, 0.0, math.pi, math.pi]] * 2)
    pairs = torch.eye(4)
    pairs[0, :2] = pairs[2, 2:] = 0.5  # with those in step
    pairs[1] = torch.tensor([0.5, 0.0, 0.5, 0.0])  # with the opposite
    local = record(angles, pairs[None, None, None]).local_order().flatten()
    torch.testing.assert_close(local, torch.tensor([1.0, 0.0, 1.0, 1.0]), atol=1e-6, rtol=0)
    own = record(angles, pairs[None, None, None]).own_weight().flatten()
    assert own.tolist() == [0.5, 0.0, 0.5, 1.0]


def test_clusters_are_chains_of_near_phases() -> None:
    chain = torch.tensor([0.0, 0.4, 0.8, 1.2, 3.0])  # each near the next, the ends not near
    turned = torch.tensor([3.1, -3.1, 0.0, 0.1, 1.5])  # near across the cut of the circle
    found = record(torch.stack([chain, turned]))
    assert found.clusters(0.5).flatten().tolist() == [2, 3]
    assert found.clusters(0.3).flatten().tolist() == [5, 3]
    assert found.clusters(2.0).flatten().tolist() == [1, 1]


@pytest.mark.parametrize("name", ["circle", "sphere-4", "so-3", "u-2"])
def test_a_model_s_record(name: str) -> None:
    sizes = {"width": 16, "hidden": 8, "steps": 2, "embedding_start": "normal"}
    model = resonant.phase_language_model("0.11M", manifold=name, **sizes)
    model.train()
    tokens = torch.randint(0, 256, (2, 13))
    padding = torch.zeros(2, 13, dtype=torch.bool)
    padding[1, :4] = True
    found = record_phases(model, tokens, key_padding_mask=padding)
    of: Manifold = manifold(name)
    assert found.manifold == of
    assert found.points.shape == (3, 2, 13, 8, of.features, 2)
    assert found.coupled.shape == (2, 2, 13, 8, of.features, 2)
    assert found.weights.shape == (2, 2, 8, 13, 13)
    embedded = of.embed(model.points(model.embedding(tokens)))
    torch.testing.assert_close(found.points[0], embedded)
    for measured in (found.order(), found.local_order()[:, 0]):
        assert ((measured >= 0) & (measured <= 1 + 1e-5)).all()
    # A token that sees only itself is in step with itself.
    torch.testing.assert_close(found.local_order()[:, 0, :, 0], torch.ones(2, 8))
    assert ((found.clusters() >= 1) & (found.clusters() <= 13)).all()
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with torch.no_grad():
        before = model.eval()(tokens, key_padding_mask=padding)
        record_phases(model, tokens, key_padding_mask=padding)
        assert torch.equal(model(tokens, key_padding_mask=padding), before)
    if name == "circle":
        angles = found.angles(torch.tensor([2, 5]), row=1)
        assert angles.shape == (3, 2, 8, 2)
        torch.testing.assert_close(angles[0].cos(), found.points[0, 1, [2, 5], :, 0])
    else:
        with pytest.raises(ValueError, match="only points of the circle have an angle"):
            found.angles(torch.tensor([0]))


def test_an_ordinary_model_with_adapters() -> None:
    model = resonant.language_model("0.11M", mechanism="kuramoto")
    found = record_phases(model, torch.randint(0, 256, (1, 9)))
    assert found.points.shape == (3, 1, 9, 4, 2, 8)
    torch.testing.assert_close(found.points[-1], found.coupled[-1])  # no drive after it


@pytest.mark.parametrize("steps", [1, 3])
def test_local_order_is_of_the_last_step(steps: int) -> None:
    """Against a model whose last step is taken apart from the ones before."""
    torch.manual_seed(0)
    module = KuramotoAttention(12, 2, steps=steps, beta=0.2)
    state = 2.0 * torch.randn(1, 9, 12)
    found = record_phases(module, state)
    before = state
    once = KuramotoAttention(12, 2)
    once.load_state_dict(module.state_dict())
    with torch.no_grad():
        for _ in range(steps - 1):
            before = once(before)[0]
        _, weights = once(before, need_weights=True)
    x = Circle().embed(once.split(before))
    expected = torch.einsum("bhtu,buhfc->bthfc", weights, x).square().sum(-2).sqrt().mean(-1)
    torch.testing.assert_close(found.local_order()[0], expected.transpose(1, 2))
    assert found.local_order().max() < 0.99
    torch.testing.assert_close(found.points[0], Circle().embed(module.split(state)))


def test_what_has_no_record_says_why() -> None:
    with pytest.raises(ValueError, match="no Kuramoto coupling whose phases could be shown"):
        record_phases(resonant.language_model("0.11M"), torch.zeros(1, 5, dtype=torch.long))

    class Model(nn.Module):
        def __init__(self, *parts: nn.Module) -> None:
            super().__init__()
            self.parts = nn.ModuleList(parts)

    class Two(Model):
        def forward(self, x: Tensor) -> Tensor:
            return self.parts[1](self.parts[0](x)[0])[0]

    class Cross(Model):
        def forward(self, x: Tensor) -> Tensor:
            return self.parts[0](x, key=x[:, :3])[0]

    class Again(Model):
        def forward(self, x: Tensor) -> Tensor:
            return self.parts[0](query=self.parts[0](query=x)[0])[0]

    cases = (
        (Two(KuramotoAttention(8, 2), KuramotoAttention(8, 4)), "differ in shape"),
        (Cross(PhaseAdapter(8, 2)), "coupling 0 runs on other tokens' phases"),
        (Cross(KuramotoAttention(8, 2)), "coupling 0 runs on other tokens' phases"),
        (Again(KuramotoAttention(8, 2)), "coupling 0 is called more than once"),
        (Cross(PhaseAdapter(8, 2), KuramotoAttention(4, 2)), "coupling 0 runs on other"),
        (Two(KuramotoAttention(8, 2), KuramotoAttention(8, 2), PhaseAdapter(8, 2)), "not called"),
    )
    for model, why in cases:
        with pytest.raises(ValueError, match=why):
            record_phases(model, torch.randn(1, 5, 8))
        for module in model.modules():
            assert "watch" not in vars(module)
            assert not module._forward_hooks
