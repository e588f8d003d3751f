"""Grids: gathered tiles are the materialized form, linear in the patches."""

import itertools
import subprocess
import sys
from typing import Any

import pytest
import torch

from resonant.functional import (
    Full,
    Grid,
    Lift,
    attend,
    attention_weights,
    krause_attention,
    mechanism,
    mechanisms,
    record_paths,
)
from resonant.functional.attend import Case, choose_path
from resonant.functional.neighborhood import Metric, causal_part

METRICS: tuple[Metric, ...] = ("manhattan", "chebyshev")
SIZES = [(1, 1), (1, 2), (1, 13), (5, 3), (8, 8), (9, 16), (17, 23)]


def random_lift(grid: Grid, *, heads: int = 4, key_heads: int = 2) -> Lift:
    """Every part that a lift without a pair may have, all with gradients."""
    torch.manual_seed(grid.tokens)
    batch = 2 if grid.tokens < 300 else 1
    sizes = {"query": heads, "key": key_heads, "value": key_heads}
    parts: dict[str, Any] = {
        name: torch.randn(batch, count, grid.tokens, 3, dtype=torch.float64, requires_grad=True)
        for name, count in sizes.items()
    }
    bias = torch.randn(1, key_heads, grid.tokens, dtype=torch.float64, requires_grad=True)
    sink = torch.randn(1, heads, 1, dtype=torch.float64, requires_grad=True)
    return Lift(**parts, key_bias=bias, sink=sink)


def value_and_gradients(lift: Lift, grid: Grid, top_k: int | None, path: str) -> list[torch.Tensor]:
    output = attend(lift, grid, top_k=top_k, path=path)  # type: ignore[arg-type]
    weights = torch.linspace(0.5, 1.5, output.numel(), dtype=torch.float64).view_as(output)
    parts = [
        x for x in (lift.query, lift.key, lift.value, lift.key_bias, lift.sink) if x is not None
    ]
    return [output, *torch.autograd.grad((output * weights).sum(), parts)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("radius", [1, 2])
def test_gathered_is_materialized(size: tuple[int, int], metric: Metric, radius: int) -> None:
    """With 0 to 4 global tokens and every top-k that selects something (the largest grid: some)."""
    for first in range(5) if size != SIZES[-1] else (0, 1, 4):
        grid = Grid(*size, radius, metric, global_tokens=first)
        if grid.sees_all:
            continue
        lift = random_lift(grid)
        most = grid.neighbors + first
        ks = range(1, most + 2) if grid.tokens < 300 else (1, 3, most - 1)
        for top_k in (None, *ks):
            with record_paths() as taken:
                ours = value_and_gradients(lift, grid, top_k, "auto")
            assert taken == ["gathered"]
            torch.testing.assert_close(
                ours, value_and_gradients(lift, grid, top_k, "materialized"), msg=str((grid, top_k))
            )


@pytest.mark.parametrize("name", sorted(mechanisms()))
def test_every_mechanism_runs_on_a_grid(name: str) -> None:
    torch.manual_seed(0)
    grid, of = Grid(9, 10, 1), mechanism(name)
    tensors = [torch.randn(1, 2, grid.tokens, 4, dtype=torch.float64) for _ in range(3)]
    scalars = {n: torch.full((2,), s.start, dtype=torch.float64) for n, s in of.scalars.items()}
    lift = of.lift(*tensors, **scalars)
    for top_k in (None, 3):
        torch.testing.assert_close(
            attend(lift, grid, top_k=top_k, path="gathered"),
            attend(lift, grid, top_k=top_k, path="materialized"),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_keeps_to_the_budget(dtype: torch.dtype) -> None:
    """Error against float64 at most twice that of the direct formula in the same dtype."""
    grid, ours, plain, scale = Grid(9, 11, 2, "chebyshev"), [], [], []
    for seed in range(20):
        torch.manual_seed(seed)
        q, k, v = (torch.randn(2, 2, grid.tokens, 16).to(dtype) for _ in range(3))
        truth = krause_attention(q.double(), k.double(), v.double(), 3.7, neighborhood=grid)
        here = torch.arange(grid.tokens)
        distance = (q.unsqueeze(3) - k.unsqueeze(2)).square().sum(-1)
        logits = (-distance / (2 * 3.7**2)).masked_fill(~grid.visible(here, here), -torch.inf)
        direct = logits.softmax(-1) @ v
        ours.append((krause_attention(q, k, v, 3.7, neighborhood=grid).double() - truth).square())
        plain.append((direct.double() - truth).square())
        scale.append(truth.square().mean().sqrt())
    errors = [torch.stack([x.mean().sqrt() for x in each]).median() for each in (ours, plain)]
    assert errors[0] <= 2 * errors[1] + torch.finfo(dtype).eps / 8 * torch.stack(scale).median()


@pytest.mark.parametrize("metric", METRICS)
def test_who_sees_whom(metric: Metric) -> None:
    grid = Grid(4, 5, 2, metric, global_tokens=2)
    here = torch.arange(grid.tokens)
    seen = grid.visible(here, here)
    for i, j in itertools.product(range(grid.tokens), repeat=2):
        (a, b), (c, d) = (divmod(x - 2, 5) for x in (i, j))
        rows, columns = abs(a - c), abs(b - d)
        away = rows + columns if metric == "manhattan" else max(rows, columns)
        assert bool(seen[i, j]) == (i < 2 or j < 2 or away <= 2)
    assert int(seen[2 + 5 + 2, 2:].sum()) <= grid.neighbors
    large = Grid(9, 9, 2, metric, global_tokens=0)
    assert large.neighbors == int(large.visible(torch.tensor([40]), torch.arange(81)).sum())


def test_a_patch_out_of_sight_changes_nothing() -> None:
    grid = Grid(9, 9, 1, global_tokens=0)
    lift = random_lift(grid)
    before = attend(lift, grid)
    key, value = lift.key.detach().clone(), lift.value.detach().clone()
    key[:, :, 40], value[:, :, 40] = 9.0, -9.0
    assert lift.key_bias is not None
    after = attend(Lift(lift.query, key, value, lift.key_bias, sink=lift.sink), grid)
    changed = (after != before).any(-1).any(1).any(0).nonzero().flatten().tolist()
    assert changed == [31, 39, 40, 41, 49]


@pytest.mark.parametrize(
    ("grid", "top_k", "mask", "path"),
    [
        (Grid(8, 8), None, "none", "gathered"),
        (Grid(8, 8), 3, "none", "gathered"),
        (Grid(8, 8), None, "constant", "chunked"),
        (Grid(8, 8), None, "learned", "chunked"),
        (Grid(3, 3, 4), None, "none", "fused"),  # everything is near
        (Grid(3, 3, 2, "chebyshev"), 3, "none", "chunked"),
        (Grid(1, 1), None, "none", "fused"),
    ],
)
def test_the_path_taken(grid: Grid, top_k: int | None, mask: str, path: str) -> None:
    tokens = grid.tokens
    masks = {
        "none": None,
        "constant": torch.ones(tokens, tokens, dtype=torch.bool).triu(-9),
        "learned": torch.zeros(tokens, tokens, requires_grad=True),
    }
    lift = Lift(*(torch.randn(1, 2, tokens, 4, dtype=torch.float64) for _ in range(3)))
    with record_paths() as taken:
        output = attend(lift, grid, top_k=top_k, attn_mask=masks[mask])
    assert taken == [path]
    options = {"top_k": top_k, "attn_mask": masks[mask]}
    torch.testing.assert_close(output, attend(lift, grid, **options, path="materialized"))
    weights = attention_weights(lift, grid, **options)
    torch.testing.assert_close(output, weights @ lift.value)
    if path == "gathered":
        assert choose_path(Case(tokens, tokens, grid, top_k)) == path


def test_padding_and_dropout_stay_gathered() -> None:
    grid = Grid(9, 9)
    lift = random_lift(grid)
    padding = torch.ones(2, 1, 1, grid.tokens, dtype=torch.bool)
    padding[1, ..., 40:] = False
    with record_paths() as taken:
        output = attend(lift, grid, attn_mask=padding)
        torch.manual_seed(0)
        dropped = torch.stack([attend(lift, grid, dropout_p=0.5) for _ in range(150)]).mean(0)
    assert set(taken) == {"gathered"}
    torch.testing.assert_close(output, attend(lift, grid, attn_mask=padding, path="materialized"))
    off = (dropped - attend(lift, grid)).abs().mean() / attend(lift, grid).abs().mean()
    assert off.item() < 0.15  # twice that would be another mean


def test_a_picture_all_padding_gives_zeros_and_finite_gradients() -> None:
    grid = Grid(9, 9, global_tokens=0)
    tensors = [torch.randn(1, 2, 81, 4, requires_grad=True) for _ in range(3)]
    nothing = torch.zeros(1, 1, 1, 81, dtype=torch.bool)
    for top_k in (None, 2):
        output = attend(Lift(*tensors), grid, top_k=top_k, attn_mask=nothing)
        assert not output.any()
        for each in torch.autograd.grad(output.sum(), tensors):
            assert bool(each.isfinite().all())


@pytest.mark.usefixtures("unchecked")
def test_clear_refusals() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        Grid(0, 3)
    with pytest.raises(TypeError, match=r"height counts: an integer, not 3\.5"):
        Grid(3.5, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="radius counts"):
        Grid(3, 3, -1)
    with pytest.raises(ValueError, match="global_tokens counts"):
        Grid(3, 3, global_tokens=-1)
    with pytest.raises(ValueError, match="manhattan or chebyshev"):
        Grid(3, 3, metric="euclid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="have no past"):
        causal_part(Grid(3, 3))
    lift = Lift(*(torch.randn(1, 1, 9, 4) for _ in range(3)))
    for call in (attend, attention_weights):
        with pytest.raises(ValueError, match="has 10 tokens"):
            call(lift, Grid(3, 3))
    with pytest.raises(ValueError, match="only a grid is gathered"):
        attend(lift, Full(), path="gathered")
    with pytest.raises(ValueError, match="the fused kernel has no grids"):
        attend(lift, Grid(3, 3, global_tokens=0), path="fused")


MEMORY = """
import sys, torch
from resonant import vision_transformer
from resonant.models.vision_configs import VisionAttentionConfig
from resonant.memory import peak_bytes, reset_peak
torch.set_num_threads(1)
side, top_k = int(sys.argv[1]), int(sys.argv[2]) or None
attention = VisionAttentionConfig("krause", radius=1, top_k=top_k)

def step(side, width):
    sizes = {"image_height": side, "image_width": side, "patch": 1, "layers": 2, "width": width}
    model = vision_transformer(**sizes, hidden=2 * width, attention=attention)
    optimizer = torch.optim.AdamW(model.parameters())
    pictures = torch.randn(4, 3, side, side)
    yield
    model(pictures).square().sum().backward()
    optimizer.step()
    yield

list(step(4, 16))
run = step(side, 64)
next(run)
before = reset_peak()
next(run)
print(peak_bytes() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [0, 4])
def test_memory_is_linear_in_the_patches(top_k: int) -> None:
    """Of a training step of a model, in a fresh process, what was there before subtracted."""

    def peak(side: int) -> int:
        command = [sys.executable, "-c", MEMORY, str(side), str(top_k)]
        found = [
            int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            for _ in range(3)
        ]
        return sorted(found)[1]

    assert peak(64) <= 4.8 * peak(32)
