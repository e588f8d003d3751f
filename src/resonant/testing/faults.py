"""Laws that faults in use have shown: ties, empty batches, masks, rows that see one key."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from ..functional import Band, Causal, Full, Grid, Lift, Mechanism, attend, record_paths
from .laws import HEADS, Inputs, draw

EQUAL, WIDE = 23, 64  # keys that are equal, and their width


def law_ties(of: Mechanism) -> None:
    """Equal keys are treated alike: the full pass and one query at a time keep the same top k.

    In float32, at a width where rounding holds equal keys apart.
    """
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        query, key, value = (
            torch.randn(1, HEADS, n, WIDE, generator=generator) for n in (EQUAL, 1, EQUAL)
        )
        key = key.expand(1, HEADS, EQUAL, WIDE)
        scalars = {name: torch.full((HEADS,), scalar.start) for name, scalar in of.scalars.items()}
        whole = attend(of.lift(query, key, value, **scalars), Causal(), top_k=2)
        alone = attend(of.lift(query[:, :, -1:], key, value, **scalars), Causal(), top_k=2)
        error = (whole[:, :, -1:] - alone).abs().max().item()
        assert error < 1e-3, f"{of.name}: equal keys are told apart, outputs {error:.2e} apart"


def law_empty(of: Mechanism) -> None:
    """No rows, no queries or no keys give every input and scalar a gradient, of zeros."""
    for batch, queries, keys in ((0, 5, 5), (2, 0, 5), (2, 5, 0)):
        inputs = draw(of, queries, keys, batch=batch)
        output = attend(inputs.lift(of))
        assert output.shape[:3] == (batch, HEADS, queries)
        gradients = torch.autograd.grad(output.sum(), inputs.tensors, allow_unused=True)
        sizes = f"{batch} rows, {queries} queries, {keys} keys"
        for gradient in gradients:
            assert gradient is not None, f"{of.name}: {sizes} leave an input out of the graph"
            assert gradient.eq(0).all(), f"{of.name}: {sizes} give a gradient that is not 0"


def law_masks(of: Mechanism) -> None:
    """The usual causal mask beside a causal neighborhood changes no bit, and no path."""
    length = 40
    inputs = draw(of, length, length, dtype=torch.float32)
    taken = torch.ones(length, length, dtype=torch.bool).tril()
    for neighborhood in (Causal(), Causal(5)):
        for top_k in (None, 3):
            outputs, paths = [], []
            for mask in (None, taken, torch.zeros(length, length).masked_fill(~taken, -math.inf)):
                with record_paths() as recorded:
                    options = {"top_k": top_k, "attn_mask": mask}
                    outputs.append(attend(inputs.lift(of), neighborhood, **options))
                paths.append(recorded[0])
            where = f"{of.name}, {neighborhood}, top_k={top_k}"
            assert len(set(paths)) == 1, f"a mask that says nothing takes another path: {where}"
            same = all(torch.equal(outputs[0], each) for each in outputs)
            assert same, f"a mask that says nothing changes bits: {where}"


def law_lone_rows(of: Mechanism) -> None:
    """A row that sees one key gives its logit no gradient, however long the key (without sinks)."""
    padded = (torch.arange(9) >= 8)[None]
    own = torch.eye(9, dtype=torch.bool)
    for neighborhood, mask, row in (
        (Causal(), None, 0),
        (Causal(1), None, 4),
        (Band(0), None, 4),
        (Band(2), padded, 7),
        (Grid(3, 3, radius=0, global_tokens=0), None, 4),
        (Grid(3, 3, global_tokens=0), padded, 5),
        (Full(), padded, 3),
        (Full(), own, 5),
        (Causal(), own.float().log(), 5),
    ):
        inputs = draw(of, 9, 9, batch=1, dtype=torch.float32)
        key = inputs.key.detach().clone()
        key *= 100
        long = dataclasses.replace(inputs, key=key.requires_grad_())
        lift = long.lift(of)
        if lift.sink is not None:
            return
        output = attend(lift, neighborhood, attn_mask=mask)
        (gradient,) = torch.autograd.grad(output[:, :, row].square().sum(), long.query)
        assert output[:, :, row].ne(0).any(), f"{of.name}: no key is seen, {neighborhood}"
        where = f"{of.name}, {neighborhood}: a logit without a choice has a gradient"
        assert gradient.eq(0).all(), where


def law_bad_numbers(of: Mechanism) -> None:
    """Keys, values and biases that are no number come out: none counts as blocked.

    A query of NaN is left out: PyTorch's fused CPU kernel gives it a finite row.
    """
    for name in ("key", "value"):
        inputs = draw(of, 7, 7, dtype=torch.float32)
        bad = getattr(inputs, name).detach().clone()
        bad[0, 0, 3] = math.nan
        broken: Inputs = dataclasses.replace(inputs, **{name: bad})
        rows = broken.lift(of)
        for path in ("auto", "materialized"):
            output = attend(rows, path=path)  # type: ignore[arg-type]
            assert _none_finite(output[0, 0]), f"{of.name}: a {name} of NaN is hidden on {path}"
    _check_bias(draw(of, 7, 7, dtype=torch.float32).lift(of), of.name)


def _check_bias(lift: Lift, name: str) -> None:
    bias = torch.zeros(1, 1, 7)
    bias[..., 3] = math.nan
    for path in ("auto", "materialized"):
        output = attend(lift.add_bias(bias), path=path)  # type: ignore[arg-type]
        assert _none_finite(output), f"{name}: a key bias of NaN counts as blocked on {path}"


def _none_finite(x: Tensor) -> bool:
    return bool(x.isnan().all())
