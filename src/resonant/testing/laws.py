"""Laws for mechanisms, ours and yours, to be called from tests."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from ..functional import (
    Band,
    Causal,
    Full,
    Grid,
    Lift,
    Mechanism,
    Neighborhood,
    attend,
    mechanism,
    record_paths,
)
from ..functional.attend import PATHS, Case, Path, why_not
from ..nn.cache import AttentionCache

DIM = 8
HEADS = 4
KEY_HEADS = 2


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Queries, keys and values (batch, head, sequence, dim), and the mechanism's scalars."""

    query: Tensor
    key: Tensor
    value: Tensor
    scalars: dict[str, Tensor]

    def lift(self, of: Mechanism) -> Lift:
        """The mechanism's lift of these inputs."""
        return of.lift(self.query, self.key, self.value, **self.scalars)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything a gradient is taken to."""
        return self.query, self.key, self.value, *self.scalars.values()


def draw(
    of: Mechanism,
    queries: int,
    keys: int,
    *,
    batch: int = 2,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Inputs:
    """Normal inputs with grouped queries and scalars near their start, all needing gradients."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scalars = {}
    for name, scalar in of.scalars.items():
        spread = 0.1 * (abs(scalar.start) or 1.0)
        scalars[name] = (scalar.start + spread * normal(HEADS)).to(dtype).requires_grad_()
    shapes = ((HEADS, queries, DIM), (KEY_HEADS, keys, DIM), (KEY_HEADS, keys, DIM - 2))
    query, key, value = (normal(batch, *s).to(dtype).requires_grad_() for s in shapes)
    return Inputs(query, key, value, scalars)


def _neighborhoods() -> tuple[Neighborhood, ...]:
    others = (Causal(own=False), Causal(window=5, own=False))
    windows = (Causal(window=5), Causal(window=40), Band(radius=3), Causal(window=5, first=2))
    return (Full(), Causal(), *windows, *others)


def _possible_paths(
    queries: int, keys: int, neighborhood: Neighborhood, top_k: int | None
) -> Iterator[Path]:
    for path in PATHS:
        if why_not(path, Case(queries, keys, neighborhood, top_k)) is None:
            yield path


def law_causality(of: Mechanism) -> None:
    """Replacing the future changes no bit of what comes before, on any path.

    Queries become not-a-number, values loud noise; keys loud noise, and not-a-number too where the
    kernel replaces masked scores (a mask that is added to them lets not-a-number through).
    """
    length, cut = 37, 20
    inputs = draw(of, length, length, batch=1, dtype=torch.float32)

    def replaced(key_noise: float) -> Inputs:
        query, key, value = (x.detach().clone() for x in inputs.tensors[:3])
        query[:, :, cut:] = float("nan")
        key[:, :, cut:] = key_noise * torch.randn_like(key[:, :, cut:])
        value[:, :, cut:] = 1e3 * torch.randn_like(value[:, :, cut:])
        return dataclasses.replace(inputs, query=query, key=key, value=value)

    for neighborhood in (Causal(), Causal(window=5), Causal(window=5, first=2)):
        for top_k in (None, 3):
            for path in _possible_paths(length, length, neighborhood, top_k):
                noises = (1e3, float("nan")) if path in ("fused", "materialized") else (1e3,)
                for noise in noises:
                    before, after = (
                        attend(x.lift(of), neighborhood, top_k=top_k, path=path)[:, :, :cut]
                        for x in (inputs, replaced(noise))
                    )
                    where = f"{of.name}, {neighborhood}, top_k={top_k}, path={path}"
                    assert torch.equal(before, after), f"the future reaches the past: {where}"


def law_off(of: Mechanism) -> None:
    """Each scalar at its ``off`` gives its baseline exactly."""
    inputs = draw(of, 9, 9)
    for name, scalar in of.scalars.items():
        off = torch.full((HEADS,), scalar.off, dtype=torch.float64)
        without = dataclasses.replace(inputs, scalars=inputs.scalars | {name: off})
        if scalar.baseline == "mean":
            flat = (torch.zeros_like(inputs.query), torch.zeros_like(inputs.key))
            baseline = Lift(*flat, inputs.value)
        else:
            plain = mechanism(scalar.baseline)
            baseline = plain.lift(inputs.query, inputs.key, inputs.value)
        for neighborhood in _neighborhoods():
            ours, theirs = (
                attend(lift, neighborhood, path="materialized")
                for lift in (without.lift(of), baseline)
            )
            assert torch.equal(ours, theirs), (
                f"{of.name} with {name}={scalar.off} is not {scalar.baseline} in {neighborhood}: "
                f"{(ours - theirs).abs().max():.2e}"
            )


def law_padding(of: Mechanism) -> None:
    """Padded keys, left or right and whatever finite numbers they hold, change nothing."""
    length, padding = 23, 6
    inputs = draw(of, length, length)
    for side in ("left", "right"):
        for top_k in (None, 4):
            noise = draw(of, padding, padding, seed=1)
            ordered = (noise, inputs) if side == "left" else (inputs, noise)
            key, value = (
                torch.cat([getattr(x, name) * (100 if x is noise else 1) for x in ordered], dim=2)
                for name in ("key", "value")
            )
            real = torch.arange(length + padding) >= padding
            real = real if side == "left" else real.flip(0)
            padded = dataclasses.replace(inputs, key=key, value=value)
            for path in ("auto", "materialized"):
                ours = attend(
                    padded.lift(of), top_k=top_k, attn_mask=real[None, None, None], path=path
                )
                theirs = attend(inputs.lift(of), top_k=top_k, path=path)
                error = (ours - theirs).abs().max().item()
                assert error < 1e-11, f"{of.name}: {side} padding changes {path} by {error:.2e}"


def law_permutation(of: Mechanism) -> None:
    """Shuffling keys with their values changes nothing; shuffled queries shuffle the output."""
    inputs = draw(of, 23, 23)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    shuffled = dataclasses.replace(
        inputs, key=inputs.key[:, :, order], value=inputs.value[:, :, order]
    )
    turned = dataclasses.replace(shuffled, query=inputs.query[:, :, order])
    for top_k in (None, 4):
        reference = attend(inputs.lift(of), top_k=top_k)
        torch.testing.assert_close(attend(shuffled.lift(of), top_k=top_k), reference)
        torch.testing.assert_close(attend(turned.lift(of), top_k=top_k), reference[:, :, order])


def law_gradients(of: Mechanism) -> None:
    """Gradients to every input and scalar pass float64 gradcheck on every automatic path."""
    window, staying = Causal(window=3), Causal(window=3, first=1)
    cases = ((Full(), None), (Causal(), None), (window, None), (window, 2), (staying, None))
    for neighborhood, top_k in cases:
        inputs = draw(of, 7, 7, batch=1)

        def run(
            *tensors: Tensor,
            inputs: Inputs = inputs,
            neighborhood: Neighborhood = neighborhood,
            top_k: int | None = top_k,
        ) -> Tensor:
            names = dict(zip(inputs.scalars, tensors[3:], strict=True))
            lift = Inputs(*tensors[:3], scalars=names).lift(of)
            return attend(lift, neighborhood, top_k=top_k)

        assert torch.autograd.gradcheck(run, inputs.tensors, eps=1e-6, atol=1e-6, fast_mode=True)


def law_paths(of: Mechanism) -> None:
    """Every path equals ``materialized`` in value and gradient, at awkward sizes, with padding."""
    sizes = ((1, 1), (7, 7), (23, 23), (129, 129), (7, 23), (23, 7), (1, 129), (129, 7))
    taken: set[str] = set()
    grids = (Grid(9, 11, global_tokens=2), Grid(3, 17, 2, "chebyshev", global_tokens=0))
    cases = [(size, each) for size in sizes for each in _neighborhoods()]
    cases += [((grid.tokens, grid.tokens), grid) for grid in grids]
    for size, neighborhood in cases:
        for top_k in (None, 4):
            for padding in ("none", "left", "right"):
                inputs = draw(of, *size)
                taken |= _compare_paths(of, inputs, neighborhood, top_k=top_k, padding=padding)
    assert taken == set(PATHS), f"{of.name}: only {sorted(taken)} were compared"


def _compare_paths(
    of: Mechanism,
    inputs: Inputs,
    neighborhood: Neighborhood,
    *,
    top_k: int | None,
    padding: str,
) -> set[str]:
    """Compare all paths that can; returns the ones taken."""
    queries, keys = inputs.query.shape[2], inputs.key.shape[2]
    if top_k is not None:  # repeated tokens: ties that every path must treat alike
        repeated = inputs.key.detach()[:, :, torch.arange(keys) % 3].requires_grad_()
        inputs = dataclasses.replace(inputs, key=repeated)
    mask = None
    if padding != "none":
        real = torch.arange(keys) >= keys // 3
        mask = (real if padding == "left" else real.flip(0))[None, None, None]

    taken: set[str] = set()

    def run(path: str) -> tuple[Tensor, ...]:
        options = {"top_k": top_k, "attn_mask": mask, "path": path}
        with record_paths() as recorded:
            output = attend(inputs.lift(of), neighborhood, **options)
        taken.update(recorded)  # none where there is no other token than oneself
        assert path == "auto" or set(recorded) <= {path}, f"{path} was asked for, not {recorded}"
        gradients = torch.autograd.grad(output.square().sum(), inputs.tensors)
        return output, *gradients

    reference = run("materialized")
    for path in ("auto", "fused", "banded", "gathered", "chunked"):
        try:
            results = run(path)
        except ValueError:  # this path cannot, and says why: see the dispatch table
            assert path in ("fused", "banded", "gathered")
            continue
        for ours, theirs in zip(results, reference, strict=True):
            scale = theirs.abs().max().item() + 1.0
            error = (ours - theirs).abs().max().item() if theirs.numel() else 0.0
            assert error < 1e-10 * scale, (
                f"{of.name}: {path} differs from materialized by {error:.2e} for {queries} "
                f"queries, {keys} keys, {neighborhood}, top_k={top_k}, {padding} padding"
            )
    return taken


@torch.no_grad()
def law_cache(of: Mechanism) -> None:
    """Keys lifted piece by piece into a cache, rows reordered half-way, attend as if whole."""
    length, order = 23, torch.tensor([1, 0])
    for neighborhood in (Causal(), Causal(7), Causal(4, first=2)):
        for top_k in (None, 3):
            inputs = draw(of, length, length)
            whole = attend(inputs.lift(of), neighborhood, top_k=top_k)
            cache = AttentionCache(neighborhood.window, neighborhood.first)
            for start, stop in itertools.pairwise((0, 5, 10, 15, *range(16, length + 1))):
                if start == 15:
                    cache.reorder(order)
                    turned = (x[order] for x in (inputs.query, inputs.key, inputs.value))
                    inputs, whole = Inputs(*turned, scalars=inputs.scalars), whole[order]
                parts = (x[:, :, start:stop] for x in (inputs.query, inputs.key, inputs.value))
                lift = cache.update(Inputs(*parts, scalars=inputs.scalars).lift(of))
                ours = attend(lift, neighborhood, top_k=top_k)
                error = (ours - whole[:, :, start:stop]).abs().max().item()
                where = f"{neighborhood}, top_k={top_k}, tokens {start} to {stop - 1}"
                assert error < 1e-9, f"{of.name}: decoding differs by {error:.2e} ({where})"


def law_blind_rows(of: Mechanism) -> None:
    """A query that sees nothing gives zeros, and finite gradients to everything."""
    inputs = draw(of, 9, 5)
    for path in ("fused", "chunked", "materialized"):
        output = attend(inputs.lift(of), Causal(), path=path)
        assert output[:, :, :4].eq(0).all(), f"{of.name}: blind rows are not zero on {path}"
        for gradient in torch.autograd.grad(output.square().sum(), inputs.tensors):
            assert gradient.isfinite().all(), f"{of.name}: a gradient is not finite on {path}"
    nothing = torch.zeros(1, 1, 1, 5, dtype=torch.bool)
    output = attend(inputs.lift(of), attn_mask=nothing)
    assert output.eq(0).all(), f"{of.name}: with every key padded the output is not zero"
